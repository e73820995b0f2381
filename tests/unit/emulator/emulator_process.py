"""A running emulator process and links whose ends the test holds."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.emulator.counters import DirectionCounters
from testbed.emulator.userspace.client import UserspaceEmulator
from testbed.emulator.userspace.messages import AddLink
from testbed.errors import LabError
from testbed.kernel.processes.control import ControlChannel, Descriptor
from testbed.topology.model import Impairments

DEADLINE = 30.0


class Started:
    """An emulator process, its client, and the channel to hang up."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "testbed.emulator.userspace",
                    "--control",
                    str(theirs.fileno()),
                ],
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
            )
        self.channel = ControlChannel(ours, "emulator")
        self.client = UserspaceEmulator(self.channel)
        self.await_answer()

    def await_answer(self) -> None:
        """Return when it answers, if only that a link is unknown."""
        with pytest.raises(LabError, match="no link"):
            self.client.counters("unknown")

    def proc(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()

    def cpu_seconds(self) -> float:
        fields = self.proc("stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> str:
        self.channel.close()
        try:
            _, stderr = self.process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return stderr.decode()


def add_link(
    name: str,
    tap_a: int,
    tap_b: int,
    forward: Impairments = Impairments(),  # noqa: B008 (frozen)
    reverse: Impairments = Impairments(),  # noqa: B008
    seed: int = 0,
    log_fd: int | None = None,
) -> AddLink:
    """The message that asks for a link between two descriptors."""
    return AddLink(
        name=name,
        tap_a=Descriptor(tap_a),
        tap_b=Descriptor(tap_b),
        forward=forward,
        reverse=reverse,
        seed=seed,
        log=None if log_fd is None else Descriptor(log_fd),
    )


def attach(
    emulator: Started,
    stack: contextlib.ExitStack,
    name: str,
    forward: Impairments = Impairments(),  # noqa: B008 (frozen)
    reverse: Impairments = Impairments(),  # noqa: B008
    seed: int = 0,
    log_fd: int | None = None,
) -> tuple[socket.socket, socket.socket]:
    outer, inner = zip(
        *(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)), strict=True
    )
    for end in inner:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    emulator.client.add_link(
        add_link(name, inner[0].fileno(), inner[1].fileno(), forward, reverse, seed, log_fd)
    )
    for end in inner:
        end.close()
    for end in outer:
        end.settimeout(DEADLINE)
        stack.enter_context(end)
    return outer[0], outer[1]


def settled(emulator: Started, name: str, packets_in: int) -> DirectionCounters:
    """The forward counters once that many packets have entered the link."""
    limit = time.monotonic() + DEADLINE
    while time.monotonic() < limit:
        counted = emulator.client.counters(name).forward
        if counted.packets_in >= packets_in:
            return counted
    raise AssertionError(f"{counted.packets_in} packets of {packets_in} after {DEADLINE} s")
