"""How long a transmitter takes for a frame."""

from __future__ import annotations

from bisect import bisect_left
from typing import Protocol

from testbed.kernel.timer import SECOND, Nanoseconds
from testbed.topology.model import RateTrace
from testbed.wire.frame import FULL_FRAME

_MILLISECOND = SECOND // 1000


class Transmitter(Protocol):
    """The transmitter's speed; each frame counts `overhead` bytes more than it has."""

    overhead: int

    def finish(self, start: Nanoseconds, size: int) -> Nanoseconds:
        """When a frame of `size` bytes has been sent whose turn comes at `start`.

        Called for every frame that is sent, in order, with `start` no earlier than the finish of
        the one before.
        """


class Unlimited:
    """No time at all."""

    overhead = 0

    def finish(self, start: Nanoseconds, size: int) -> Nanoseconds:
        return start


class ConstantRate:
    """`rate` bit/s."""

    def __init__(self, rate: float, overhead: int) -> None:
        self._ns_per_byte = 8 * SECOND / rate
        self.overhead = overhead

    def finish(self, start: Nanoseconds, size: int) -> Nanoseconds:
        return start + int((size + self.overhead) * self._ns_per_byte)


class TracedRate:
    """A rate trace as mahimahi plays it (mm-link): each line lets one full-sized packet pass.

    A frame leaves at the opportunity that takes its last byte. Several small ones share an
    opportunity if they wait for it; what nobody waits for is lost. The trace begins at `epoch`
    and repeats with the time of its last line as its period.
    """

    def __init__(self, trace: RateTrace, overhead: int, epoch: Nanoseconds) -> None:
        self._moments = [line * _MILLISECOND for line in trace.opportunities]
        self._period = self._moments[-1]
        self._epoch = epoch
        self.overhead = overhead
        self._index = -1  # the opportunity in use, counted on through the repetitions
        self._left = 0  # bytes that still fit into it

    def finish(self, start: Nanoseconds, size: int) -> Nanoseconds:
        need = size + self.overhead
        if self._index < 0 or self._moment(self._index) < start:
            self._index = self._first_at(start)
            self._left = FULL_FRAME
        if need > self._left:
            further = -(-(need - self._left) // FULL_FRAME)
            self._left += further * FULL_FRAME
            self._index += further
        self._left -= need
        return self._moment(self._index)

    def _moment(self, index: int) -> Nanoseconds:
        repetition, line = divmod(index, len(self._moments))
        return self._epoch + repetition * self._period + self._moments[line]

    def _first_at(self, moment: Nanoseconds) -> int:
        """The first opportunity at or after `moment`."""
        repetition, within = divmod(max(0, moment - self._epoch), self._period)
        return repetition * len(self._moments) + bisect_left(self._moments, within)
