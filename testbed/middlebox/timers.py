"""Calls that are due later, driven by whoever owns the loop and the clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Final

from testbed.kernel.timer import NEVER, SECOND, Nanoseconds

_SMALL: Final = 64


class Timer:
    """One call that is due at `due`, in seconds of the clock of its `Timers`."""

    __slots__ = ("_timers", "callback", "due")

    def __init__(self, due: float, callback: Callable[[], None], timers: Timers) -> None:
        self.due = due
        self.callback: Callable[[], None] | None = callback
        self._timers = timers

    def cancel(self) -> None:
        """Do not call; harmless after the call."""
        if self.callback is not None:
            self.callback = None
            self._timers.forget_one()


class Timers:
    """A heap of timers. Cancelled ones never make up more than half of it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._cancelled = 0

    def __len__(self) -> int:
        """How many entries the heap has, cancelled ones included."""
        return len(self._heap)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` once, `delay` seconds from now."""
        timer = Timer(self.clock() + delay, callback, self)
        heapq.heappush(self._heap, (timer.due, next(self._order), timer))
        return timer

    def next_due(self) -> Nanoseconds:
        """When the next call is certainly due, in ns of the clock, or NEVER."""
        due = self._next()
        return NEVER if due is None else int(due * SECOND) + 1

    def timeout(self) -> float | None:
        """Seconds until the next call, 0 when one is overdue, None when there is none."""
        due = self._next()
        return None if due is None else max(0.0, due - self.clock())

    def _next(self) -> float | None:
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][0] if self._heap else None

    def fire(self) -> None:
        """Make the calls that are due now; those they add wait for the next time."""
        if not self._heap:
            return
        now, last = self.clock(), next(self._order)
        while self._heap and self._heap[0][0] <= now and self._heap[0][1] < last:
            timer = heapq.heappop(self._heap)[2]
            callback, timer.callback = timer.callback, None
            if callback is None:
                self._cancelled -= 1
            else:
                callback()

    def forget_one(self) -> None:
        """A timer was cancelled: take the cancelled ones out when they are too many."""
        self._cancelled += 1
        if self._cancelled > _SMALL and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0
