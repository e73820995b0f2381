"""The loop's decisions about when to wake up."""

from __future__ import annotations

import contextlib
import random
import socket
import time

import pytest

from testbed.emulator.counters import LatenessHistogram
from testbed.emulator.userspace.ferry import Ferry, HeadStart
from testbed.emulator.userspace.link import Link, Workspace
from testbed.emulator.userspace.steered import Steered
from testbed.topology.model import Impairments

MS = 1_000_000


def served(start: HeadStart, dues: list[int], wake_up: random.Random) -> tuple[list[int], int]:
    """How late each frame is handed over, and the time spun, if sleeps end 20 to 150 us late."""
    now = spun = 0
    lates = []
    for due in dues:
        wake_at = start.before(due, now)
        woken = now
        if wake_at > now:
            woken = wake_at + wake_up.randrange(20_000, 150_000)
            start.slept(woken - now)
            start.learn(woken - wake_at)
        if woken < due:
            start.spin(woken)
            spun += due - woken
        now = max(woken, due)
        start.over(now)
        lates.append(now - due)
    return lates, spun


def test_frames_with_time_between_them_are_all_on_time():
    dues = [number * 5 * MS for number in range(1, 1001)]
    lates, _ = served(HeadStart(), dues, random.Random(1))
    late = sum(one > 0 for one in lates[100:])
    assert late < 20


def test_what_will_be_slept_until_a_frame_is_due_counts_already():
    start = HeadStart()
    start.spin(1 * MS)
    start.over(50 * MS)
    assert start.before(51 * MS, 51 * MS) == 51 * MS
    assert start.before(60 * MS, 50 * MS) < 60 * MS


def test_nothing_is_spun_away_when_there_is_no_time_to_sleep():
    start = HeadStart()
    spun = 0
    for now in range(0, 1000 * MS, 12_000):
        due = now + 12_000
        if start.before(due, now) <= now:
            start.spin(now)
            start.over(due)
            spun += due - now
    assert spun < 5 * MS


@pytest.mark.parametrize("gap", [MS // 5, MS // 2, MS, 3 * MS])
def test_spinning_takes_no_more_than_a_tenth_of_the_time(gap):
    dues = [number * gap for number in range(1, 2001)]
    _, spun = served(HeadStart(), dues, random.Random(2))
    assert 0 < spun <= 0.1 * dues[-1] + 2 * MS


def test_the_head_start_grows_at_once_to_what_waking_up_takes_and_shrinks_slowly():
    start = HeadStart()
    start.learn(150_000)
    assert start.before(10 * MS, 0) == 10 * MS - 160_000
    start.learn(20_000)
    assert 10 * MS - 160_000 < start.before(10 * MS, 0) < 10 * MS - 150_000
    for _ in range(2000):
        start.learn(20_000)
    assert 10 * MS - 50_000 < start.before(10 * MS, 0) < 10 * MS - 25_000


def test_a_stall_of_the_machine_does_not_make_it_spin_for_long():
    start = HeadStart()
    start.learn(50 * MS)
    assert start.before(10 * MS, 0) >= 10 * MS - 300_000


def test_a_frame_that_was_not_spun_for_costs_no_head_start():
    start = HeadStart()
    start.over(9 * MS)
    assert start.before(10 * MS, 9 * MS) < 10 * MS


class Nothing:
    """Something on the agenda that only counts how often it is asked."""

    scheduled = wake = 1 << 62
    asked = 0

    def release(self, now: int) -> None:
        self.asked += 1


@pytest.mark.parametrize(("until_due", "reads"), [(30_000, False), (50 * MS, True)])
def test_nothing_is_read_in_the_last_moments_before_a_frame_is_due(until_due, reads):
    ferry = Ferry(Steered())
    ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    with contextlib.ExitStack() as stack:
        (outer, a), (_, b) = (map(stack.enter_context, pair) for pair in ends)
        workspace = Workspace(LatenessHistogram(), Steered())
        fds = (a.fileno(), b.fileno())
        ferry.add(Link("cable", fds, Impairments(), Impairments(), 0, workspace))
        outer.send(b"x")
        next_one = Nothing()
        now = time.monotonic_ns()
        next_one.wake = due = now + until_due
        ferry.schedule(next_one)
        ready = ferry._spin(due, now)
        assert [fd for fd, _ in ready] == ([a.fileno()] if reads else [])
        assert (time.monotonic_ns() >= due) != reads
        assert next_one.asked == 1


def test_spinning_ends_also_for_an_entry_that_an_earlier_one_has_superseded():
    ferry = Ferry(Steered())
    superseded = Nothing()
    superseded.wake = now = time.monotonic_ns()
    ferry.schedule(superseded)
    superseded.scheduled = now - 1
    ferry._head_start.spin(now)
    ferry._release_due(now)
    assert superseded.asked == 0
    assert not ferry._head_start.spinning
