"""The loop of processes that carry packets: when it wakes up, rests, and waits busily."""

from __future__ import annotations

import random
import socket
import time

import pytest

from testbed.kernel import realtime
from testbed.kernel.load_sharing import LoadSharing
from testbed.kernel.realtime import LONGEST_STINT, REST, BusyWaiting, RealtimeLoop
from testbed.kernel.timer import NEVER, SECOND

MS = 1_000_000


def served(busy: BusyWaiting, dues: list[int], wake_up: random.Random) -> tuple[list[int], int]:
    """How late each packet is handed over, and the time waited busily, if sleeps end 20 to 150 us
    late."""
    now = waited = 0
    lates = []
    for due in dues:
        wake_at = busy.begins(due, now)
        woken = now
        if wake_at > now:
            woken = wake_at + wake_up.randrange(20_000, 150_000)
            busy.slept(woken - now)
            busy.learn(woken - wake_at)
        if woken < due:
            busy.waited(due - woken)
            waited += due - woken
        now = max(woken, due)
        lates.append(now - due)
    return lates, waited


def test_packets_with_time_between_them_are_all_on_time():
    dues = [number * 5 * MS for number in range(1, 1001)]
    lates, _ = served(BusyWaiting(), dues, random.Random(1))
    late = sum(one > 0 for one in lates[100:])
    assert late < 20


def test_what_will_be_slept_until_a_packet_is_due_counts_already():
    busy = BusyWaiting()
    busy.waited(49 * MS)
    assert busy.begins(51 * MS, 51 * MS) == 51 * MS
    assert busy.begins(60 * MS, 50 * MS) < 60 * MS


def test_nothing_is_waited_for_busily_when_there_is_no_time_to_sleep():
    busy = BusyWaiting()
    waited = 0
    for now in range(0, 1000 * MS, 12_000):
        due = now + 12_000
        if busy.begins(due, now) <= now:
            busy.waited(due - now)
            waited += due - now
    assert waited < 5 * MS


@pytest.mark.parametrize("gap", [MS // 5, MS // 2, MS, 3 * MS])
def test_busy_waiting_takes_no_more_than_a_tenth_of_the_time(gap):
    dues = [number * gap for number in range(1, 2001)]
    _, waited = served(BusyWaiting(), dues, random.Random(2))
    assert 0 < waited <= 0.1 * dues[-1] + 2 * MS


def test_it_begins_at_once_as_early_as_waking_up_takes_and_later_again_slowly():
    busy = BusyWaiting()
    busy.learn(150_000)
    assert busy.begins(10 * MS, 0) == 10 * MS - 160_000
    busy.learn(20_000)
    assert 10 * MS - 160_000 < busy.begins(10 * MS, 0) < 10 * MS - 150_000
    for _ in range(2000):
        busy.learn(20_000)
    assert 10 * MS - 50_000 < busy.begins(10 * MS, 0) < 10 * MS - 25_000


def test_a_stall_of_the_machine_does_not_make_it_wait_busily_for_long():
    busy = BusyWaiting()
    busy.learn(50 * MS)
    assert busy.begins(10 * MS, 0) >= 10 * MS - 300_000


@pytest.fixture
def readable():
    near, far = socket.socketpair()
    with near, far:
        far.send(b"x")
        yield near


class Load(LoadSharing):
    """Takes note of what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def loaded(self, now: int) -> None:
        self.told.append("loaded")

    def slept(self, now: int) -> None:
        self.told.append("slept")


class Time:
    """A clock that goes on by 1 us whenever it is read, and the sleeps that were taken."""

    def __init__(self) -> None:
        self.now = 100 * SECOND
        self.taken: list[float] = []

    def monotonic_ns(self) -> int:
        self.now += 1000
        return self.now

    def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock(monkeypatch):
    made = Time()
    monkeypatch.setattr(realtime, "time", made)
    return made


@pytest.mark.parametrize("due", [NEVER, 0])
def test_a_busy_loop_rests_after_every_stint_and_tells_of_load(clock, readable, due):
    load = Load()
    loop = RealtimeLoop(load)
    loop.register(readable.fileno())
    began = clock.now
    while clock.now < began + 20 * (LONGEST_STINT + REST):
        assert loop.wait(due) == [readable.fileno()]
    assert 18 <= len(clock.taken) <= 20
    assert set(clock.taken) == {REST / SECOND}
    assert load.told == ["loaded"] * len(clock.taken)


def test_a_loop_that_has_just_slept_does_not_rest(clock, readable, monkeypatch):
    load = Load()
    loop = RealtimeLoop(load)

    class Epoll:
        def poll(self, timeout: int | None = None) -> list[tuple[int, int]]:
            clock.now += 4 * MS
            return [(readable.fileno(), 1)]

    monkeypatch.setattr(loop, "_epoll", Epoll())
    for _ in range(100):
        loop.wait(NEVER)
    assert clock.taken == [] and load.told == ["slept"] * 100


def test_where_waits_are_exact_it_neither_rests_nor_waits_busily(clock, readable, monkeypatch):
    monkeypatch.setattr(realtime, "waits_are_exact", lambda: True)
    load = Load()
    loop = RealtimeLoop(load, busy_waiting=True)
    loop.register(readable.fileno())
    due = clock.now + 10 * 1000 * MS
    while clock.now < due:
        assert loop.wait(clock.now + 10_000, _must_not_be_called) == [readable.fileno()]
        clock.now += MS
    assert clock.taken == [] and "loaded" not in load.told


def _must_not_be_called(now: int = 0) -> None:
    raise AssertionError(f"busy-waiting at {now}")


def test_where_waits_are_exact_it_tells_without_a_clock_whether_something_is_due(
    readable, monkeypatch
):
    monkeypatch.setattr(realtime, "waits_are_exact", lambda: True)
    past = time.monotonic_ns()
    loop = RealtimeLoop(LoadSharing())
    loop.register(readable.fileno())
    with monkeypatch.context() as without:
        without.setattr(realtime.time, "monotonic_ns", _must_not_be_called)
        assert loop.wait(past + 1000 * MS) == [readable.fileno()]
        assert not loop.may_be_due
        loop.unregister(readable.fileno())
        assert loop.wait(past) == []
        assert loop.may_be_due


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("busy_waiting", [True, False])
@pytest.mark.parametrize("wait", [30_000, 300_000, 3 * MS])
def test_it_is_never_back_too_early(exact, busy_waiting, wait, monkeypatch):
    monkeypatch.setattr(realtime, "waits_are_exact", lambda: exact)
    loop = RealtimeLoop(LoadSharing(), busy_waiting=busy_waiting)
    for _ in range(20):
        due = time.monotonic_ns() + wait
        ready: list[int] = []
        while time.monotonic_ns() < due:
            ready = loop.wait(due)
        assert ready == []


@pytest.mark.parametrize(("until_due", "reads"), [(30_000, False), (50 * MS, True)])
def test_nothing_is_read_in_the_last_moments_before_a_packet_is_due(until_due, reads, readable):
    loop = RealtimeLoop(LoadSharing(), busy_waiting=True)
    loop.register(readable.fileno())
    warmed = []
    now = time.monotonic_ns()
    due = now + until_due
    ready = loop._wait_busily(due, now, BusyWaiting(), warmed.append)
    assert ready == ([readable.fileno()] if reads else [])
    assert (time.monotonic_ns() >= due) != reads
    assert warmed == [now]


def test_a_descriptor_that_is_unregistered_wakes_nobody(readable):
    loop = RealtimeLoop(LoadSharing())
    loop.register(readable.fileno())
    loop.unregister(readable.fileno())
    assert loop.wait(time.monotonic_ns() + MS) == []
