"""What is asked of whoever owns the clock: the time, and to be called later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Appointment(Protocol):
    """A call that is due at `due`, in seconds of the clock."""

    due: float

    def cancel(self) -> None:
        """Do not call; harmless after the call."""


class Timekeeper(Protocol):
    """A clock that never steps, in seconds."""

    def now(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> Appointment:
        """Call `callback` once, `delay` seconds from now."""
