"""Paths that emulation.py measures: two hosts of a lab with an emulated link between them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from testbed.emulator.counters import Lateness, LinkCounters
from testbed.emulator.netem.probe import probe_netem
from testbed.errors import TestbedError
from testbed.kernel.namespace import NamespaceThread
from testbed.lab import Lab, LabNode
from testbed.topology.model import (
    Endpoint,
    Impairments,
    Link,
    Node,
    Queue,
    QueueLimit,
    Topology,
)

LOAD = Path(__file__).with_name("emulation_load.py")
PORT = 5001
ETHERNET = 14
#: Time that the end of a load may be late by.
GRACE = 30.0


class Unavailable(Exception):
    """An emulator that this machine does not have; the words say how to get it."""


@dataclass(frozen=True)
class Conditions:
    """Of both directions: one-way delay in s, rate in bit/s, most packets that wait for it."""

    delay: float = 0.0
    rate: float | None = None
    limit: int = 1000


@dataclass(frozen=True)
class Done:
    """What a load printed, and the processor time in s that the emulator took meanwhile."""

    output: dict[str, Any]
    cpu: float | None


class EmulatedPath(Protocol):
    """An emulated path between a near end, where loads run, and a far end, a node of a lab.

    overhead: bytes that a packet takes at the rate beyond those of IP.
    """

    far: LabNode
    overhead: int

    def run(self, program: str, *words: object, seconds: float) -> Done:
        """Run a load at the near end to its end; seconds: about how long it takes."""

    def lateness(self) -> Lateness | None:
        """How late packets were by the emulator's own account, if it keeps one."""


class LabPath:
    """A link between `near` and `far`, the nodes of a lab."""

    overhead = ETHERNET

    def __init__(self, lab: Lab) -> None:
        self.near, self.far = lab["near"], lab["far"]
        self._link = lab.link("near", "far")

    def run(self, program: str, *words: object, seconds: float) -> Done:
        before = self._counters().cpu_seconds
        argv = [sys.executable, LOAD, program, self.far.address, *map(str, words)]
        done = self.near.run(argv, timeout=seconds + GRACE)
        used = self._counters().cpu_seconds - before
        return Done(json.loads(done.stdout), used or None)

    def lateness(self) -> Lateness | None:
        found = self._counters().lateness
        return found if found.packets else None

    def _counters(self) -> LinkCounters:
        return self._link.counters


class LabEmulator:
    """One of the project's own."""

    def __init__(self, kind: Literal["userspace", "netem"]) -> None:
        if kind == "netem":
            refuse_without_netem()
        self.kind = kind
        self.name: str = kind

    @contextmanager
    def path(self, conditions: Conditions) -> Iterator[LabPath]:
        with self.lab((("near", "far"),), impairments(conditions)) as lab:
            yield LabPath(lab)

    def lab(self, pairs: tuple[tuple[str, str], ...], *both: Impairments) -> Lab:
        """Pairs of hosts, each with a link of its own. both: of the directions, or of each."""
        forward, reverse = both * 2 if len(both) == 1 else both
        names = [name for pair in pairs for name in pair]
        return Lab(
            Topology(
                name="benchmark",
                nodes={name: Node(name=name) for name in names},
                links=tuple(
                    Link(
                        endpoints=(Endpoint(a, "eth0"), Endpoint(b, "eth0")),
                        forward=forward,
                        reverse=reverse,
                        emulated=True,
                    )
                    for a, b in pairs
                ),
                emulator=self.kind,
            )
        )


def impairments(conditions: Conditions) -> Impairments:
    queue = Queue(limit=QueueLimit(conditions.limit, "packets"))
    return Impairments(delay=conditions.delay, rate=conditions.rate, queue=queue)


def refuse_without_netem() -> None:
    thread = NamespaceThread()
    try:
        namespace = thread.create_namespace()
        missing = namespace.call(probe_netem).missing
        namespace.close()
    except TestbedError as error:
        raise Unavailable(str(error)) from None
    finally:
        thread.close()
    if missing:
        raise Unavailable(f"this kernel has no {', '.join(missing)}")
