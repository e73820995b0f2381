"""The figures of all connections of a trace at once, without objects of their segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.trace.analysis import SegmentClass
from testbed.trace.analysis.progress import Positions
from testbed.trace.analysis.together import ClassedTogether, class_together
from testbed.trace.analysis.volumes import by_side, oversized, unique_bytes
from testbed.trace.endings import End, endings
from testbed.trace.handshake import HandshakeRtt, opening_rows, read_handshake
from testbed.trace.segments import Flow, Segment
from testbed.trace.table import SegmentTable


@dataclass(frozen=True, eq=False)
class TraceSummary:
    """What there is to tell of each connection, in the order of their numbers.

    Arrays have the shape (connections, 2), by side: 0 what the initiator sent, 1 the responder.
    segments: all, copies included. unique_bytes: of payload, each counted once.
    retransmissions, forwarded, repeated, oversized: how many segments, as in `Direction`.
    rtts, ends: as `Connection.handshake_rtt` and `.ended`.
    classes: the `SegmentClass` of each row of the table.
    """

    segments: Positions
    unique_bytes: Positions
    retransmissions: Positions
    forwarded: Positions
    repeated: Positions
    oversized: Positions
    rtts: Sequence[HandshakeRtt | None]
    ends: Sequence[End]
    classes: NDArray[np.uint8]


def summarise(
    table: SegmentTable,
    outward: Sequence[Flow],
    segments_at: Callable[[NDArray[np.intp]], Sequence[Segment]],
) -> TraceSummary:
    """The summary of a table.

    outward: the flow of each initiator. segments_at: the segments of some rows as objects; it is
    asked for handshakes and for what may be copies.
    """
    classes = np.zeros(len(table), np.uint8)
    figures = {name: np.zeros((len(outward), 2), np.int64) for name in _FIGURES}
    rtts: list[HandshakeRtt | None] = [None] * len(outward)
    ends = [End.OPEN] * len(outward)
    for part in class_together(table, lambda row: segments_at(np.array([row]))[0]):
        classes[part.rows] = part.classes
        progress = part.progress
        numbers = progress.table.connection[progress.starts] - 1
        for name, count in _FIGURES.items():
            figures[name][numbers] = count(part)
        opening, group = opening_rows(progress.table, progress.ignored)
        segments = segments_at(part.rows[opening])
        bounds = np.searchsorted(group, np.arange(len(numbers) + 1)).tolist()
        for index, (number, end) in enumerate(
            zip(numbers.tolist(), endings(progress.table), strict=True)
        ):
            first = segments[bounds[index] : bounds[index + 1]]
            rtts[number] = read_handshake(first, outward[number]).rtt
            ends[number] = end
    return TraceSummary(**figures, rtts=rtts, ends=ends, classes=classes)


def _of_class(kind: SegmentClass) -> Callable[[ClassedTogether], Positions]:
    return lambda part: by_side(part.progress, part.progress.key[part.classes == kind])


_FIGURES: dict[str, Callable[[ClassedTogether], Positions]] = {
    "segments": lambda part: by_side(part.progress, part.progress.key),
    "unique_bytes": lambda part: unique_bytes(part.progress),
    "retransmissions": _of_class(SegmentClass.RETRANSMISSION),
    "forwarded": _of_class(SegmentClass.COPY),
    "repeated": _of_class(SegmentClass.DUPLICATE),
    "oversized": lambda part: by_side(part.progress, part.progress.key[oversized(part.progress)]),
}
