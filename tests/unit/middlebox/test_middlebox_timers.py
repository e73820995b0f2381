"""Calls that are due later."""

from __future__ import annotations

from functools import partial

from testbed.middlebox.timers import Timers


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_calls_come_in_order_of_time_and_then_of_asking():
    clock, calls = Clock(), []
    timers = Timers(clock)
    for delay, name in ((2, "late"), (1, "early"), (1, "early too")):
        timers.call_later(delay, partial(calls.append, name))
    assert timers.timeout() == 1
    timers.fire()
    assert calls == []
    clock.now = 5
    assert timers.timeout() == 0
    timers.fire()
    assert calls == ["early", "early too", "late"] and timers.timeout() is None


def test_a_cancelled_call_does_not_come_even_when_cancelled_by_another_that_is_due():
    clock, calls = Clock(), []
    timers = Timers(clock)
    timers.call_later(1, lambda: second.cancel())
    second = timers.call_later(2, lambda: calls.append("second"))
    clock.now = 3
    timers.fire()
    assert calls == [] and timers.timeout() is None
    second.cancel()


def test_calls_added_by_a_call_wait_for_the_next_time():
    clock = Clock()
    timers = Timers(clock)

    def again() -> None:
        timers.call_later(0, again)

    again()
    timers.fire()
    assert timers.timeout() == 0


def test_cancelled_calls_do_not_pile_up():
    clock = Clock()
    timers = Timers(clock)
    kept = timers.call_later(50, lambda: None)
    for _ in range(10_000):
        timers.call_later(100, lambda: None).cancel()
        assert len(timers) < 200
    clock.now = 50
    assert timers.timeout() == 0 and kept.callback is not None
