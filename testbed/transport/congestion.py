"""How much a sender may have under way: the congestion control of RFC 5681."""

from __future__ import annotations

from typing import Final

_UNKNOWN: Final = 1 << 62
_INITIAL: Final = 14600  # bytes: ten segments of the usual size (RFC 6928 section 2)


def initial_window(mss: int) -> int:
    """The window of a connection that begins, in bytes (RFC 6928 section 2)."""
    return min(10 * mss, max(2 * mss, _INITIAL))


class Congestion:
    """mss: bytes of a segment. window: bytes that may be under way. initial: at first."""

    def __init__(self, mss: int, initial: int) -> None:
        self.mss = mss
        self.window = initial
        self._initial = initial
        self._threshold = _UNKNOWN

    @property
    def limit(self) -> int:
        """The most bytes under way."""
        return self.window

    def acknowledged(self, size: int) -> None:
        """So many bytes have arrived, and none are known to be lost (section 3.1)."""
        if self.window < self._threshold:
            self.window += min(size, self.mss)
        else:
            self.window += self._increase()

    def _increase(self) -> int:
        """What an acknowledgement adds in congestion avoidance (section 3.1, equation 3)."""
        return max(self.mss * self.mss // self.window, 1)

    def begin_recovery(self, under_way: int) -> None:
        """A loss is to be repaired (section 3.2); what is under way is in bytes."""
        self._slow_down(under_way)
        self.window = self._threshold

    def end_recovery(self, duplicates: int) -> None:
        """It was repaired, after so many duplicate acknowledgements.

        The window is what `begin_recovery` has made of it: what duplicate acknowledgements say of
        packets that have left the network is counted by the sender, and not added here.
        """

    def time_out(self, under_way: int, *, again: bool) -> None:
        """All that was sent counts as lost, once more or `again` (section 3.1)."""
        if not again:
            self._slow_down(under_way)
        self.window = self.mss

    def rest(self) -> None:
        """Nothing was sent for longer than a time-out (section 4.1)."""
        self.window = min(self.window, self._initial)

    def _slow_down(self, under_way: int) -> None:
        self._threshold = max(under_way // 2, 2 * self.mss)
