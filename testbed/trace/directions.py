"""What each endpoint of a connection sent: new data, repeated, probes, copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from testbed.trace.analysis import Analysis, Needless, RepeatReason, SegmentClass
from testbed.trace.analysis.volumes import oversized, unique_bytes
from testbed.trace.segments import Flow, Segment
from testbed.wire.flags import SYN


class FirstData(msgspec.Struct, frozen=True, eq=False):
    """The first segment of one side that has data, as seen here.

    carried_by_handshake_ack: it is the one that completes the handshake, too.
    """

    segment: Segment
    carried_by_handshake_ack: bool


class Direction:
    """What one endpoint sent: its part of an `Analysis`, as segments.

    isn: its initial sequence number; when its SYN is missing, inferred as one before its first
    segment, and `isn_seen` is False.
    segments: all of them, copies included.
    """

    def __init__(
        self,
        flow: Flow,
        side: int,
        analysis: Analysis,
        segments: Callable[[], Sequence[Segment]],
    ) -> None:
        self.flow = flow
        self.isn = int(analysis.progress.isn[0, side])
        self.isn_seen = bool(analysis.progress.isn_seen[0, side])
        self._analysis = analysis
        self._side = side
        self._all = segments

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        return self._segments(self._analysis.rows(side=self._side))

    def of_class(self, *kinds: SegmentClass) -> tuple[Segment, ...]:
        """The segments of these classes."""
        rows = self._analysis.rows(*kinds, side=self._side)
        return self._segments(rows)

    def retransmissions(
        self, reason: RepeatReason | None = None, *, needless: bool | None = None
    ) -> tuple[Segment, ...]:
        """Segments of which a part was sent before; neither probes nor copies are.

        As the capture shows it: what was lost before this point is not "sent before", it is of
        class `FILLS_HOLE`. reason, needless: only those of this reason; that were, or were not,
        needless.
        """
        rows = [
            one.row
            for one in self._analysis.repeats_of(self._side)
            if one.kind is SegmentClass.RETRANSMISSION
            and reason in (None, one.reason)
            and needless in (None, one.needless is not Needless.NO)
        ]
        return self._segments(np.array(rows, np.intp))

    @property
    def first_data(self) -> FirstData | None:
        """None where the side sent no data."""
        table, progress = self._analysis.table, self._analysis.progress
        rows = np.flatnonzero(self._own & (table.length > 0) & ~progress.strays)
        if not len(rows):
            return None
        acks = np.flatnonzero(self._own & progress.has_ack & (table.flags & SYN == 0))
        carried = self._side == 0 and self.isn_seen and bool(len(acks)) and acks[0] == rows[0]
        return FirstData(self._segments(rows[:1])[0], bool(carried))

    @property
    def keepalives(self) -> tuple[Segment, ...]:
        """Repeat the last byte or nothing, to see whether the other side is there."""
        return self.of_class(SegmentClass.KEEPALIVE)

    @property
    def window_probes(self) -> tuple[Segment, ...]:
        """Ask a closed window whether it is open."""
        return self.of_class(SegmentClass.WINDOW_PROBE)

    @property
    def forwarded(self) -> tuple[Segment, ...]:
        """Copies of segments further on their way, on another interface of the capture."""
        return self.of_class(SegmentClass.COPY)

    @property
    def repeated(self) -> tuple[Segment, ...]:
        """Copies alike in all, captured twice or duplicated by a link."""
        return self.of_class(SegmentClass.DUPLICATE)

    @property
    def copies(self) -> tuple[Segment, ...]:
        """All copies."""
        return self.forwarded + self.repeated

    @property
    def oversized(self) -> tuple[Segment, ...]:
        """Segments larger than the other side's MSS, which no wire carries.

        The capture was taken where segmentation offload is at work.
        """
        found = oversized(self._analysis.progress)
        return self._segments(np.flatnonzero(found & self._own))

    @property
    def payload_bytes(self) -> int:
        """Bytes of payload in all its segments but copies."""
        return int(self._analysis.table.length[self._own].sum())

    @cached_property
    def unique_bytes(self) -> int:
        """The same with each byte counted once."""
        return int(unique_bytes(self._analysis.progress)[0, self._side])

    def _segments(self, rows: NDArray[np.intp]) -> tuple[Segment, ...]:
        if not len(rows):
            return ()
        segments = self._all()
        return tuple(segments[row] for row in rows.tolist())

    @property
    def _own(self) -> NDArray[np.bool_]:
        progress = self._analysis.progress
        own: NDArray[np.bool_] = progress.side == self._side
        return own & ~progress.ignored
