"""What the tests of links share: statistics that a machine which stalls cannot move.

A stall, or other work, makes a packet late and never early. So a delay is judged by the least
late of many packets, a rate by the least late of a train's first and last frames, a queue by the
median of all that found it full.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

from testbed.kernel.clock import waits_are_exact

UDP_OVER_ETHERNET = 14 + 20 + 8


def await_moment(due: float) -> float:
    """Wait until `due`, s of the monotonic clock, as exactly as this kernel can; the time then."""
    if waits_are_exact():
        time.sleep(max(0.0, due - time.monotonic()))
    while (now := time.monotonic()) < due:
        pass
    return now


def within_chance(seen: int, trials: int, probability: float) -> bool:
    """Whether so many of independent trials are within five standard deviations of the mean."""
    deviation = math.sqrt(trials * probability * (1 - probability))
    return abs(seen - trials * probability) <= 5 * deviation + 1


def early(delays: Sequence[float]) -> float:
    """What a quarter of them stay below; by the virtual clock, all of them."""
    return max(delays) if waits_are_exact() else statistics.quantiles(delays, n=4)[0]


def mean_gap(arrivals: Sequence[int], nominal: float) -> float:
    """Nanoseconds between frames that left one after the other, as few as they may be on time.

    arrivals: ns, at least 8. nominal: what the gap is meant to be. From the least late frame of
    the first quarter to that of the last; what came late in between does not count.
    """
    late = [arrived - number * nominal for number, arrived in enumerate(arrivals)]
    quarter = len(late) // 4
    return nominal + (min(late[-quarter:]) - min(late[:quarter])) / (len(late) - quarter)
