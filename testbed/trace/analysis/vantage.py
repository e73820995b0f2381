"""Where on the path of a connection a capture was taken, estimated from the trace."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec
import numpy as np

from testbed.trace.analysis.progress import SequenceProgress
from testbed.trace.analysis.samples import by_sequence, by_time_stamps
from testbed.wire.flags import SYN

_NEAR: Final = 0.15
"""Of the round trip: what the host's own part of it may take beside it."""
_FOR_EVER: Final = 1 << 60  # ns: more is a fault of a clock


class VantagePoint(StrEnum):
    """Where a capture was taken."""

    INITIATOR = "at the initiator"
    RESPONDER = "at the responder"
    BETWEEN = "between"
    UNKNOWN = "unknown"

    def is_at(self, side: int) -> bool:
        """Whether that is side 0 (the initiator) or 1 (the responder)."""
        return self is (VantagePoint.RESPONDER if side else VantagePoint.INITIATOR)


class Legs(msgspec.Struct, frozen=True):
    """The two parts of the path, ns there and back: from here to each end; -1 where unknown."""

    to_initiator: int
    to_responder: int

    @property
    def total(self) -> int:
        """The whole round trip; -1 where a part is unknown."""
        known = self.to_initiator >= 0 and self.to_responder >= 0
        return self.to_initiator + self.to_responder if known else -1

    def to(self, side: int) -> int:
        """The part to side 0 (the initiator) or 1 (the responder)."""
        return self.to_responder if side else self.to_initiator

    @property
    def vantage(self) -> VantagePoint:
        """What the parts say about where the capture was taken."""
        if self.total <= 0:
            return VantagePoint.UNKNOWN
        share = self.to_initiator / self.total
        if share <= _NEAR:
            return VantagePoint.INITIATOR
        return VantagePoint.RESPONDER if share >= 1 - _NEAR else VantagePoint.BETWEEN


def legs_of(progress: SequenceProgress, classes: Any) -> Legs:
    """The shortest round trips in the handshake, and of data and ACKs, of one connection.

    An ACK can be delayed and an answer take its time, so the shortest says most.
    """
    shortest = [-1, -1]
    handshake = _handshake(progress)
    for side in (0, 1):
        time = progress.table.time
        found = [] if handshake[side] < 0 else [handshake[side]]
        for data, acks in (
            by_sequence(progress, classes, 1 - side),
            by_time_stamps(progress, 1 - side),
        ):
            lags = time[acks] - time[data]
            found += [int(lags.min())] if len(lags) else []
        shortest[side] = min((one for one in found if 0 <= one < _FOR_EVER), default=-1)
    return Legs(*shortest)


def _handshake(progress: SequenceProgress) -> tuple[int, int]:
    """From the SYN/ACK to its ACK, and from the SYN to the SYN/ACK; -1 where in doubt."""
    time, syn = progress.table.time, (progress.flags & SYN) != 0
    asked = np.flatnonzero(syn & ~progress.strays & (progress.side == 0))
    answered = np.flatnonzero(syn & ~progress.strays & (progress.side == 1))
    back = there = -1
    if len(asked) == len(answered) == 1 and answered[0] > asked[0]:
        there = int(time[answered[0]]) - int(time[asked[0]])
    if len(answered) == 1:
        row = int(answered[0])
        acks = progress.has_ack & (progress.side == 0) & ~syn
        later = np.flatnonzero(acks[row:])
        if len(later):
            back = int(time[row + later[0]]) - int(time[row])
    return back, there
