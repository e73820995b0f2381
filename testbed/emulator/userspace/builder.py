"""The links of a lab made of TAP interfaces and processes that carry frames between them."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping, Sequence

from testbed.emulator.builder import LinkEndInNode, MadeLink, Workshop
from testbed.emulator.fate_file import FateFile
from testbed.emulator.userspace.client import UserspaceEmulator
from testbed.emulator.userspace.messages import AddLink
from testbed.emulator.userspace.overflow import Overflows
from testbed.kernel.devices import tun
from testbed.kernel.devices.arrival_stamps import stamped
from testbed.kernel.devices.steering import open_steered
from testbed.kernel.netlink import rtnetlink
from testbed.kernel.placement import Placement, in_words
from testbed.kernel.processes.control import Descriptor
from testbed.kernel.processes.helper import Helper
from testbed.topology.model import BitsPerSecond
from testbed.topology.planning.plan_model import PlannedLink

_MODULE = "testbed.emulator.userspace"
_TAP_QUEUE = 10_000
_SLOW: BitsPerSecond = 1e9
_NO_FAST_LINK = "none: no link has a rate above 1 Gbit/s, or no rate"


class UserspaceBuilder:
    """Spreads links over emulator processes in turn.

    processes: how many there may be. seed: of all random decisions.
    """

    name = "userspace"
    has_offloads = False  # a TAP has them only when the one at its other end takes them over

    def __init__(self, workshop: Workshop, processes: int, seed: int) -> None:
        self._workshop = workshop
        self._processes = processes
        self._seed = seed
        self._overflows = Overflows()
        workshop.at_end.callback(self._overflows.close)
        self._emulators: list[UserspaceEmulator] = []
        self._turn = itertools.cycle(self._emulators)
        self._placements: Mapping[str, Placement | None] = {}
        self._steered: dict[UserspaceEmulator, Placement] = {}
        self.steering: dict[str, str] = {}

    def start(self, links: int) -> Sequence[Helper]:
        count = min(self._processes, links)
        helpers = [
            self._workshop.start_helper(_MODULE, _process_name(number, count))
            for number in range(1, count + 1)
        ]
        self._emulators += [
            UserspaceEmulator(helper.channel, self._overflows) for helper in helpers
        ]
        return helpers

    def place(self, placements: Mapping[str, Placement | None]) -> None:
        self._placements = placements
        for emulator in self._emulators:
            placement = placements[emulator.process]
            self.steering[emulator.process] = (
                in_words(placement) if placement is None else _NO_FAST_LINK
            )

    def add_link(
        self, name: str, link: PlannedLink, a: LinkEndInNode, b: LinkEndInNode
    ) -> MadeLink:
        emulator = next(self._turn)
        fates = None
        with contextlib.ExitStack() as stack:
            tap_a, tap_b = (self._open_tap(emulator, link, end, stack) for end in (a, b))
            if link.log:
                fates = FateFile(name, self._workshop.directory)
                self._workshop.at_end.callback(fates.close)
            stamps_a, stamps_b = stack.enter_context(stamped(tap_a, tap_b)) or (None, None)
            emulator.add_link(
                AddLink(
                    name=name,
                    tap_a=Descriptor(tap_a),
                    tap_b=Descriptor(tap_b),
                    forward=link.forward,
                    reverse=link.reverse,
                    seed=self._seed,
                    stamps_a=None if stamps_a is None else Descriptor(stamps_a),
                    stamps_b=None if stamps_b is None else Descriptor(stamps_b),
                    log=None if fates is None else Descriptor(fates.fileno()),
                )
            )
        self._overflows.add_link(name, a, b)
        return MadeLink(emulator, fates)

    def _open_tap(
        self,
        emulator: UserspaceEmulator,
        link: PlannedLink,
        end: LinkEndInNode,
        stack: contextlib.ExitStack,
    ) -> int:
        """A TAP with all that a cable's end is born with; `stack` closes it.

        What comes in by the end of a fast link is steered to a receiver's processor: to one alone,
        so that no packet overtakes another.
        """
        interface = end.interface
        placement = self._placements[emulator.process]
        if placement is None or not _is_fast(link):
            tap = end.namespace.call(tun.open_tap, interface.name, interface.index)
        else:
            cpu = placement.receivers[interface.index % len(placement.receivers)]
            tap, refusal = end.namespace.call(
                open_steered, tun.open_tap, interface.name, interface.index, (cpu,)
            )
            if refusal is None:
                self._steered[emulator] = placement
                self.steering[emulator.process] = in_words(placement)
            elif emulator not in self._steered:
                self.steering[emulator.process] = f"none: {refusal}"
        stack.callback(os.close, tap)
        end.netlink.execute(
            [
                rtnetlink.set_link(
                    interface.index,
                    interface.name,
                    mac_address=interface.mac,
                    mtu=interface.mtu,
                    txqlen=_TAP_QUEUE,
                )
            ]
        )
        return tap

    def links_added(self) -> None:
        for emulator, placement in self._steered.items():
            emulator.steer(placement)

    def await_carriers(self) -> None:
        """A TAP has its carrier from the moment it is up."""


def _process_name(number: int, processes: int) -> str:
    return "the link emulator" if processes == 1 else f"the link emulator {number} of {processes}"


def _is_fast(link: PlannedLink) -> bool:
    """Whether an emulator that does all the kernel's work for the receivers would hold it up."""
    return all(
        one.rate_trace is None and (one.rate is None or one.rate > _SLOW)
        for one in (link.forward, link.reverse)
    )
