from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from emulator_process import Started, attach

from testbed.emulator.elements.chain import Chain
from testbed.topology.model import Impairments

MS = 1_000_000


class VirtualLine:
    """A pipeline under a clock that only the test moves; frames are sent and come out by hand."""

    def __init__(self, impairments: Impairments, round_trip: float = 0.0, seed: int = 1) -> None:
        self.chain = Chain(seed, "link", "forward")
        self.round_trip = round_trip
        self.chain.configure(impairments, round_trip, 0)

    def set(self, impairments: Impairments, now: int) -> None:
        self.chain.configure(impairments, self.round_trip, now)

    def send(self, frame: bytes, time: int) -> None:
        self.chain.take(frame, time)

    def arrivals(self, until: int = 1 << 61) -> list[tuple[int, bytes]]:
        """(time, frame) of all that comes out by `until`, taking a step at every wake-up."""
        out = []
        while (wake := self.chain.wake) <= until:
            self.chain.advance(wake)
            departed = self.chain.departures.pop_due(wake, 1 << 30)
            assert all(due == wake for due, _ in departed), "woken too late"
            out += departed
        return out

    def dropped(self, cause: str) -> int:
        return self.chain.tally.dropped[cause]


@pytest.fixture
def line():
    return VirtualLine


@pytest.fixture
def emulator() -> Iterator[Started]:
    started = Started()
    try:
        yield started
    finally:
        assert started.end() == ""


@pytest.fixture
def cable(emulator) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The outer ends of a link called `cable`."""
    with contextlib.ExitStack() as stack:
        yield attach(emulator, stack, "cable")
