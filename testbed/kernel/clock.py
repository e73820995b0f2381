"""Which clock this kernel runs by: the real one, or a virtual one that exact waits can rely on.

User-Mode Linux with `time-travel=inf-cpu` has a virtual clock. It stands still while anything
computes and jumps to the next timer when everything waits, so a wait ends exactly when it is due.
Source: arch/um/kernel/time.c, Documentation/virt/uml/user_mode_linux_howto_v2.rst.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final, Literal

ClockName = Literal["real", "virtual"]

#: The seed of a virtual clock for which none is given.
USUAL_SEED: Final = 1

_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_TIME_TRAVEL = "time-travel-clock"


@cache
def clock_name() -> ClockName:
    """The clock of this kernel; real where /sys does not tell."""
    try:
        return "virtual" if _SOURCE.read_text().strip() == _TIME_TRAVEL else "real"
    except OSError:
        return "real"


def waits_are_exact() -> bool:
    """Whether a wait ends exactly when it is due, however busy the machine is.

    Then a loop gains nothing from waking up early and spinning, from resting for the sake of
    others, or from a real-time priority; spinning would only keep the virtual clock from jumping.
    """
    return clock_name() == "virtual"


def clock_while_working(now: int) -> Callable[[], int]:
    """The clock for work that begins at `now`, ns of the monotonic clock.

    Where waits are exact, work takes no time, and looking at the clock would.
    """
    return (lambda: now) if waits_are_exact() else time.monotonic_ns


def await_whole_second() -> None:
    """Where waits are exact, sleep until the next whole second; elsewhere do nothing.

    What follows then does not depend on how often the clock was looked at before, 256 ns each time.
    """
    if waits_are_exact():
        time.sleep((1_000_000_000 - time.time_ns() % 1_000_000_000) / 1e9)
