from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from emulator_process import Started, attach

from testbed.emulator.elements.pipeline import Pipeline
from testbed.topology.model import Impairments

MS = 1_000_000


class VirtualLine:
    """A pipeline under a clock that only the test moves; frames are sent and come out by hand."""

    def __init__(self, impairments: Impairments, round_trip: float = 0.0, seed: int = 1) -> None:
        self.pipeline = Pipeline(seed, "link", "forward")
        self.round_trip = round_trip
        self.pipeline.configure(impairments, round_trip, 0)

    def set(self, impairments: Impairments, now: int) -> None:
        self.pipeline.configure(impairments, self.round_trip, now)

    def send(self, frame: bytes, time: int) -> None:
        self.pipeline.take(frame, time)

    def arrivals(self, until: int = 1 << 61) -> list[tuple[int, bytes]]:
        """(time, frame) of all that comes out by `until`, taking a step at every wake-up."""
        out = []
        while (wake := self.pipeline.wake) <= until:
            self.pipeline.advance(wake)
            departed = self.pipeline.departures.pop_due(wake, 1 << 30)
            assert all(due == wake for due, _ in departed), "woken too late"
            out += departed
        return out

    def dropped(self, cause: str) -> int:
        return self.pipeline.tally.dropped[cause]


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
