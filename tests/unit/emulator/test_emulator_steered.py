"""An emulator whose frames other processors take in: where it runs, and when it waits for them."""

from __future__ import annotations

import os
import socket
import time

import pytest

from testbed.emulator.counters import LatenessHistogram
from testbed.emulator.userspace import steered
from testbed.emulator.userspace.link import Link, Workspace
from testbed.emulator.userspace.steered import Steered
from testbed.errors import LabError
from testbed.topology.model import Impairments

MS = 1_000_000


class Room:
    """A backlog of which the test says how much it takes."""

    def __init__(self, cpus) -> None:
        self.left = 0

    def room(self, wanted: int) -> int:
        return min(wanted, self.left)

    def filled(self, packets: int) -> None:
        self.left -= packets


@pytest.fixture
def moves(monkeypatch):
    """Where the process moves to, of the processors 0, 1 and 2."""
    found = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: found.append(set(cpus)))
    monkeypatch.setattr(steered, "Backlog", Room)
    return found


def test_it_keeps_to_its_own_processor_under_load_alone(moves):
    one = Steered()
    one.begin(1, [2])
    assert moves == []
    one.loaded(1000 * MS)
    one.loaded(2000 * MS)
    one.slept(2001 * MS)
    assert moves == [{1}]
    one.slept(3000 * MS)
    one.slept(4000 * MS)
    one.loaded(5000 * MS)
    assert moves == [{1}, {0, 1, 2}, {1}]


def test_one_that_was_told_nothing_stays_and_never_waits(moves):
    one = Steered()
    one.loaded(0)
    one.slept(1000 * MS)
    assert moves == []
    assert one.room(64) == 64


def test_one_whose_processor_was_taken_away_stays_and_waits_for_the_receivers(moves):
    one = Steered()
    one.begin(7, [1])
    one.loaded(0)
    assert moves == []
    assert one.room(64) == 0


def test_frames_wait_for_room_and_keep_their_order(moves):
    one = Steered()
    one.begin(0, [1])
    (outer_a, inner_a), (outer_b, inner_b) = (
        socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)
    )
    link = Link(
        "cable",
        (inner_a.fileno(), inner_b.fileno()),
        Impairments(),
        Impairments(),
        0,
        Workspace(LatenessHistogram(), one),
    )
    with outer_a, inner_a, outer_b, inner_b:
        outer_b.setblocking(False)
        for number in range(5):
            outer_a.send(bytes([number]))
        forward = link.directions["forward"]
        assert forward.receive()
        arrived = []
        for room, waiting in ((0, 5), (2, 3), (0, 3), (9, 0)):
            one._backlog.left = room
            now = time.monotonic_ns()
            forward.release(now)
            while len(arrived) < 5 - waiting:
                arrived.append(outer_b.recv(10)[0])
            assert forward.pipeline.counters(now).in_flight == waiting
            assert (forward.wake <= now) == (waiting > 0)
        assert arrived == [0, 1, 2, 3, 4]


def test_a_running_emulator_takes_it_and_refuses_nonsense(emulator, cable):
    with pytest.raises(LabError, match="emulator: "):
        emulator.client.steer(0, ["all"])
    emulator.client.steer(min(os.sched_getaffinity(0)), [max(os.sched_getaffinity(0))])
    cable[0].send(b"x")
    assert cable[1].recv(10) == b"x"
