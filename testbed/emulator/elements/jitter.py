"""Distributions of delay variation, as tables of quantiles: what netem takes, too."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from testbed.emulator.elements.chance import CorrelatedUniform
from testbed.kernel.timer import SECOND, Nanoseconds
from testbed.topology.model import Jitter

TABLE_SIZE = 4096
#: No variation is larger, in spreads: the limit of netem's tables.
FURTHEST = 4.0


@functools.cache
def normal_table() -> tuple[float, ...]:
    """TABLE_SIZE quantiles of the standard normal distribution, in the middle of equal shares."""
    upper = []
    z = 0.0
    for index in range(TABLE_SIZE // 2, TABLE_SIZE):
        share = (index + 0.5) / TABLE_SIZE
        for _ in range(4):  # Newton's method, from the quantile before
            below = 0.5 * math.erfc(-z / math.sqrt(2))
            z += (share - below) * math.sqrt(2 * math.pi) * math.exp(z * z / 2)
        upper.append(min(z, FURTHEST))
    return (*(-z for z in reversed(upper)), *upper)


@functools.cache
def pareto_table() -> tuple[float, ...]:
    """The same of the Pareto distribution with shape 3, moved and scaled to mean 0, deviation 1.

    Cutting off the tail takes 0.02 from the mean and 0.2 from the deviation.
    """
    mean, deviation = 1.5, math.sqrt(0.75)
    shares = ((index + 0.5) / TABLE_SIZE for index in range(TABLE_SIZE))
    return tuple(min(((1 - s) ** (-1 / 3) - mean) / deviation, FURTHEST) for s in shares)


def variation(jitter: Jitter, uniform: CorrelatedUniform) -> Callable[[], Nanoseconds]:
    """A function that draws the difference from the plain delay for the next frame."""
    spread = jitter.spread * SECOND
    if jitter.distribution == "uniform":
        return lambda: int(spread * (2 * uniform() - 1))
    table = normal_table() if jitter.distribution == "normal" else pareto_table()
    return lambda: int(spread * table[int(uniform() * TABLE_SIZE)])
