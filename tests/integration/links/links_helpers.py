"""What the tests of links share."""

from __future__ import annotations

import math

UDP_OVER_ETHERNET = 14 + 20 + 8


def within_chance(seen: int, trials: int, probability: float) -> bool:
    """Whether so many of independent trials are within five standard deviations of the mean."""
    deviation = math.sqrt(trials * probability * (1 - probability))
    return abs(seen - trials * probability) <= 5 * deviation + 1
