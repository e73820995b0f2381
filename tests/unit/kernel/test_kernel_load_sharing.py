"""A process whose packets other processors take in: where it runs, and how much it may send."""

from __future__ import annotations

import os

import pytest

from testbed.kernel import load_sharing
from testbed.kernel.load_sharing import LoadSharing
from testbed.kernel.placement import Placement

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
    monkeypatch.setattr(load_sharing, "Backlog", Room)
    return found


def test_it_keeps_to_its_own_processor_under_load_alone(moves):
    load = LoadSharing()
    load.begin(Placement(1, (2,)))
    assert moves == [] and not load.pinned
    load.loaded(1000 * MS)
    load.loaded(2000 * MS)
    load.slept(2001 * MS)
    assert moves == [{1}] and load.pinned
    load.slept(3000 * MS)
    load.slept(4000 * MS)
    assert not load.pinned
    load.loaded(5000 * MS)
    assert moves == [{1}, {0, 1, 2}, {1}]


def test_one_that_was_told_nothing_stays_and_never_waits(moves):
    load = LoadSharing()
    load.loaded(0)
    load.slept(1000 * MS)
    assert moves == [] and not load.pinned
    assert load.room(64) == 64


def test_one_whose_processor_was_taken_away_stays_and_waits_for_the_receivers(moves):
    load = LoadSharing()
    load.begin(Placement(7, (1,)))
    load.loaded(0)
    assert moves == [] and not load.pinned
    assert load.room(64) == 0


def test_one_whose_processor_is_taken_away_meanwhile_is_not_pinned(moves, monkeypatch):
    def refuse(pid: int, cpus: set[int]) -> None:
        raise OSError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    load = LoadSharing()
    load.begin(Placement(1, (2,)))
    load.loaded(0)
    assert not load.pinned


def test_what_is_handed_over_takes_up_room(moves):
    load = LoadSharing()
    load.begin(Placement(0, (1,)))
    load._backlog.left = 70  # type: ignore[attr-defined]
    load.handed_over(10)
    assert load.room(64) == 60
