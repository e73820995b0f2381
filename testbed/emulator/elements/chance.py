"""Random numbers that remember, as netem's do."""

from __future__ import annotations

import random


class CorrelatedUniform:
    """Numbers from 0 to 1 of which each keeps the share `correlation` of the one before.

    The same sum as in the kernel (net/sched/sch_netem.c, get_crandom), with the same effect:
    the numbers gather around one half, so that correlated events of small probability become
    rarer than that probability.
    """

    def __init__(self, generator: random.Random) -> None:
        self.correlation = 0.0
        self._random = generator.random
        self._last = self._random()

    def __call__(self) -> float:
        value = self._random()
        if self.correlation:
            value = value * (1 - self.correlation) + self._last * self.correlation
            self._last = value
        return value
