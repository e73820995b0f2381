"""Queue disciplines: which waiting packets are dropped, or marked, before the queue is full."""

from __future__ import annotations

import math
import random
from typing import Protocol

from testbed.kernel.timer import SECOND, Nanoseconds
from testbed.topology.model import Codel, Red


class Discipline(Protocol):
    """Asked about every frame that comes to a queue and every one that leaves it."""

    def condemns_arrival(self, now: Nanoseconds, queued: int, idle: float) -> bool:
        """Whether congestion is to be told by this frame.

        queued: bytes that wait; idle: how many full-sized frames the transmitter could have sent
        since it became idle, 0 while it is not.
        """

    def condemns_departure(
        self, arrived: Nanoseconds, now: Nanoseconds, queued: int, largest: int
    ) -> bool:
        """Whether congestion is to be told by this frame, which came to the queue at `arrived`.

        queued: bytes that wait behind it. largest: of the frames that have come, in bytes.
        """


class RandomEarlyDetection:
    """RED (Floyd and Jacobson 1993, sections 4 and 7; net/sched/sch_red.c), without `gentle`."""

    def __init__(self, red: Red, limit: float, generator: random.Random) -> None:
        """limit: see `change`."""
        self._random = generator.random
        self._average = 0.0
        self._since = 0
        self.change(red, limit)

    def change(self, red: Red, limit: float) -> None:
        """Take other parameters and keep the average.

        limit: of the queue, in bytes; the thresholds are taken from it where not given.
        """
        self._minimum = limit / 12 if red.minimum is None else red.minimum
        self._maximum = limit / 4 if red.maximum is None else red.maximum
        self._probability = red.probability
        self._weight = red.weight

    def condemns_arrival(self, now: Nanoseconds, queued: int, idle: float) -> bool:
        if idle:
            self._average *= (1 - self._weight) ** idle
        self._average += self._weight * (queued - self._average)
        if self._average < self._minimum:
            self._since = 0
            return False
        if self._average >= self._maximum:
            self._since = 0
            return True
        share = (self._average - self._minimum) / (self._maximum - self._minimum)
        wanted = self._probability * share
        # Made larger by the packets let through since, so that the gaps are spread evenly.
        left = 1 - self._since * wanted
        if left <= 0 or self._random() < wanted / left:
            self._since = 0
            return True
        self._since += 1
        return False

    def condemns_departure(
        self, arrived: Nanoseconds, now: Nanoseconds, queued: int, largest: int
    ) -> bool:
        return False


class CodelDiscipline:
    """CoDel as RFC 8289, section 5 has it: no more than one frame, the largest there has been
    (MAXPACKET), is no standing queue."""

    def __init__(self, codel: Codel) -> None:
        self.change(codel)
        self._above_until: Nanoseconds | None = None
        self._dropping = False
        self._drop_next: Nanoseconds = 0
        self._count = 0
        self._last_count = 0

    def change(self, codel: Codel) -> None:
        """Take other parameters and keep the state (net/sched/sch_codel.c, codel_change)."""
        self._target = round(codel.target * SECOND)
        self._interval = round(codel.interval * SECOND)

    def condemns_arrival(self, now: Nanoseconds, queued: int, idle: float) -> bool:
        return False

    def condemns_departure(
        self, arrived: Nanoseconds, now: Nanoseconds, queued: int, largest: int
    ) -> bool:
        standing = queued > largest
        above = self._above_for_an_interval(now - arrived, now, standing)
        if self._dropping:
            if not above:
                self._dropping = False
            elif now >= self._drop_next:
                self._count += 1
                self._drop_next = self._after(self._drop_next)
                return True
            return False
        if not above:
            return False
        self._dropping = True
        # Dropping that was only just given up goes on at the rate that it had reached.
        recently = now - self._drop_next < 16 * self._interval
        delta = self._count - self._last_count
        self._count = delta if delta > 1 and recently else 1
        self._drop_next = self._after(now)
        self._last_count = self._count
        return True

    def _above_for_an_interval(
        self, sojourn: Nanoseconds, now: Nanoseconds, standing: bool
    ) -> bool:
        if sojourn < self._target or not standing:
            self._above_until = None
            return False
        if self._above_until is None:
            self._above_until = now + self._interval
            return False
        return now >= self._above_until

    def _after(self, moment: Nanoseconds) -> Nanoseconds:
        return moment + int(self._interval / math.sqrt(self._count))
