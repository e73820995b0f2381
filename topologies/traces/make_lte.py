"""Makes lte.trace: the rate of a mobile link as somebody walks through a town with it.

`python topologies/traces/make_lte.py > topologies/traces/lte.trace` writes it anew, always the
same. The model is ours: the logarithm of the rate wanders around that of 8 Mbit/s and is pulled
back within a second or so, and twice the signal fades to almost nothing for half a second.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator

MILLISECONDS = 12_000
PACKET_BITS = 1514 * 8
MEAN_RATE, LOWEST, HIGHEST = 8e6, 0.5e6, 30e6
FADES = ((4_000, 4_500), (9_000, 9_500))
FADED_RATE = 0.3e6

_PULL, _STEP = 1 / 1200, 0.03


def rates(seed: int = 1) -> Iterator[float]:
    """The rate in each millisecond, bit/s."""
    random_numbers = random.Random(seed)
    level = 0.0
    for moment in range(MILLISECONDS):
        level += _STEP * random_numbers.gauss(0, 1) - _PULL * level
        rate = min(max(MEAN_RATE * math.exp(level), LOWEST), HIGHEST)
        faded = any(start <= moment < end for start, end in FADES)
        yield FADED_RATE if faded else rate


def opportunities() -> Iterator[int]:
    """The milliseconds at which a packet may pass."""
    credit = 0.0
    for moment, rate in enumerate(rates(), 1):
        credit += rate / 1000
        while credit >= PACKET_BITS:
            credit -= PACKET_BITS
            yield moment


def text() -> str:
    """The file."""
    lines = [f"# Made by make_lte.py: {MILLISECONDS // 1000} s of a mobile link."]
    lines += map(str, opportunities())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
