"""Round trips of data and its ACKs, as seen where the capture was taken."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.trace.analysis.classes import SENT_AGAIN, SegmentClass
from testbed.trace.analysis.progress import NOTHING, SequenceProgress
from testbed.trace.table import OptionBit
from testbed.wire.sequence import MASK

Rows = NDArray[np.intp]


def advancing_acks(progress: SequenceProgress, sender: int) -> Rows:
    """The rows of the other side that acknowledge something new of `sender`'s."""
    mask = progress.has_ack & (progress.side != sender)
    return np.flatnonzero(mask & (progress.acknowledged > progress.before(progress.acked)))


def by_sequence(
    progress: SequenceProgress, classes: NDArray[np.uint8], sender: int
) -> tuple[Rows, Rows]:
    """(data, ACK) rows of each round trip: the last new data that an ACK covers, and that ACK.

    ACKs that cover anything sent again, reordered or copied are left out (Karn's algorithm, RFC
    6298 section 3): nobody knows what they answer. For one connection.
    """
    acks = advancing_acks(progress, sender)
    own = progress.side == sender
    data = np.flatnonzero(own & (classes == SegmentClass.NEW_DATA) & (progress.spans > 0))
    if not len(acks) or not len(data):
        return acks[:0], acks[:0]
    acked = progress.acknowledged[acks]
    newest = np.searchsorted(progress.end[data], acked, side="right") - 1
    kept = newest >= 0
    kept &= progress.end[data[newest]] > np.concatenate(([NOTHING], acked[:-1]))
    kept &= data[newest] < acks
    doubtful = [*SENT_AGAIN, SegmentClass.REORDERED, SegmentClass.DUPLICATE, SegmentClass.COPY]
    unsure = np.flatnonzero(own & (progress.spans > 0) & np.isin(classes, doubtful))
    first = np.searchsorted(acked, progress.position[unsure], side="right")
    last = np.searchsorted(acked, progress.end[unsure], side="left")
    touched = np.zeros(len(acks) + 2, np.int64)
    np.add.at(touched, first, 1)
    np.add.at(touched, np.maximum(last + 1, first), -1)
    kept &= np.cumsum(touched)[: len(acks)] == 0
    return data[newest[kept]], acks[kept]


def by_time_stamps(progress: SequenceProgress, sender: int) -> tuple[Rows, Rows]:
    """(data, ACK) rows of each round trip by the echoed time stamp (RFC 7323 section 4).

    The data is the first with the echoed time stamp of which the ACK covers something new; also
    where that was sent again. For one connection.
    """
    table = progress.table
    stamped = (table.options & OptionBit.TIMESTAMPS) != 0
    acks = advancing_acks(progress, sender)
    acks = acks[stamped[acks] & (table.ts_echo[acks] != 0)]
    data = np.flatnonzero(stamped & (progress.side == sender) & (progress.spans > 0))
    data = data[~progress.strays[data]]
    if not len(acks) or not len(data):
        return acks[:0], acks[:0]
    origin = table.ts_value[data[:1]]
    values = _apart(table.ts_value[data], origin)
    order = np.argsort(values, kind="stable")
    values, data = values[order], data[order]
    echoes = _apart(table.ts_echo[acks], origin)
    first = np.searchsorted(values, echoes, side="left")
    limit = np.searchsorted(values, echoes, side="right")
    before = progress.before(progress.acked)[acks]
    useful = _first_beyond(progress.end[data], first, limit, before)
    found = useful >= 0
    rows = data[np.maximum(useful, 0)]
    found &= (rows < acks) & (progress.position[rows] < progress.acknowledged[acks])
    return rows[found], acks[found]


def _first_beyond(ends: Any, first: Any, limit: Any, before: Any) -> NDArray[np.int64]:
    """For each, the first index in [first, limit) with an end beyond `before`; -1: none."""
    index = first.copy()
    waiting = np.flatnonzero(index < limit)
    while len(waiting):
        low = ends[index[waiting]] <= before[waiting]
        waiting = waiting[low]
        index[waiting] += 1
        waiting = waiting[index[waiting] < limit[waiting]]
    found: NDArray[np.int64] = np.where(index < limit, index, -1)
    return found


def _apart(values: Any, origin: Any) -> NDArray[np.int64]:
    found: NDArray[np.int64] = (values - origin).astype(np.uint32).view(np.int32).astype(np.int64)
    return found


def later(one: int, other: int) -> bool:
    """Whether 32-bit time stamp `one` is later than `other` (RFC 7323 section 5.2)."""
    return 0 < (one - other & MASK) < 1 << 31
