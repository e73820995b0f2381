"""How long a TCP waits before it sends again (RFC 6298)."""

from __future__ import annotations

from typing import ClassVar, Final

_GRANULARITY: Final = 0.001
_AFTER_LOST_SYN: Final = 3.0
_LONGEST: Final = 60.0  # section 2.5


class RetransmissionTimeout:
    """Smoothed round-trip time, its variation, and the back-off. least: RTOs are not below it.

    FIRST: seconds until the first repetition, before any round trip was measured (section 2.1).
    """

    FIRST: ClassVar[float] = 1.0

    def __init__(self, least: float) -> None:
        self._least = least
        self._smoothed: float | None = None
        self._variation = 0.0
        self._backoff = 0
        self._first = self.FIRST

    @property
    def seconds(self) -> float:
        """The time-out that is in force."""
        wait = self._first
        if self._smoothed is not None:
            wait = max(self._smoothed + max(_GRANULARITY, 4 * self._variation), self._least)
        return min(wait * 2.0**self._backoff, _LONGEST)

    def measure(self, sample: float) -> None:
        """Take in a round trip of what was sent once (sections 2.2, 2.3 and 3).

        Nothing else says that waiting longer was in vain, so this ends it (section 5, at the end).
        """
        self._backoff = 0
        if self._smoothed is None:
            self._smoothed, self._variation = sample, sample / 2
        else:
            self._variation += (abs(self._smoothed - sample) - self._variation) / 4
            self._smoothed += (sample - self._smoothed) / 8

    def back_off(self) -> None:
        """It has run out: the next one is twice as long (section 5.5)."""
        self._backoff += 1

    def restart(self) -> None:
        """What was waited for is over, and was no loss."""
        self._backoff = 0

    def distrust(self) -> None:
        """A SYN was sent twice: data is waited for more patiently (section 5.7)."""
        self._first = max(self.FIRST, _AFTER_LOST_SYN)
