"""One connection, with what each of its segments is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from testbed.trace.analysis.behind import class_behind
from testbed.trace.analysis.classes import Needless, RepeatReason, SegmentClass, SegmentMark
from testbed.trace.analysis.ordinary import FirstLook, first_look
from testbed.trace.analysis.progress import NOTHING, Mask, SequenceProgress
from testbed.trace.analysis.repeats import copies_among
from testbed.trace.analysis.sent_again import SentAgain
from testbed.trace.analysis.vantage import Legs, VantagePoint, legs_of
from testbed.trace.segments import Segment
from testbed.trace.table import SegmentTable

Codes = NDArray[np.uint8]
Rows = NDArray[np.intp]


class Analysable(Protocol):
    """What `analyse` needs of a connection."""

    @property
    def table(self) -> SegmentTable: ...

    @property
    def segments(self) -> tuple[Segment, ...]: ...


class Repeat(msgspec.Struct, frozen=True):
    """One segment that was sent again.

    row: of the segment, and first: of the first one seen with its first byte; the same where that
    was never seen before. side: of the sender.
    timer: a timer fired with this one; where not, other signs or other segments led to it.
    """

    row: int
    first: int
    side: int
    kind: SegmentClass
    reason: RepeatReason
    needless: Needless
    timer: bool


@dataclass(frozen=True, eq=False)
class Analysis:
    """One connection with what each segment is; arrays have an element for each row of `table`.

    Side 0 is the initiator, 1 the responder. A row is an index into `table`, which is in the order
    of the capture, and into `Connection.segments`.

    classes: `SegmentClass`; exactly one each. reasons, needless: `RepeatReason` and `Needless` of
    what was sent again. marks: bits of `SegmentMark`.
    progress: how far both sides had come at each row: `progress.position`, `end` and
    `acknowledged` are sequence numbers relative to the initial ones, without wrap-around;
    `progress.window` is the offered window in bytes; see there.
    legs: the shortest round trips seen from here to each end. vantage: where the capture was
    taken, as given or estimated from them.
    """

    table: SegmentTable
    progress: SequenceProgress
    classes: Codes
    reasons: Codes
    needless: Codes
    marks: Codes
    legs: Legs
    vantage: VantagePoint

    def rows(self, *kinds: SegmentClass, side: int | None = None) -> Rows:
        """The rows of these classes (of all, without any), of one side or of both."""
        wanted: Mask = np.ones(len(self.classes), np.bool_)
        if kinds:
            wanted = np.isin(self.classes, kinds)
        if side is not None:
            wanted = wanted & (self.progress.side == side)
        return np.flatnonzero(wanted)

    def marked(self, mark: SegmentMark, *, side: int | None = None) -> Rows:
        """The rows with a mark."""
        wanted = (self.marks & mark) != 0
        if side is not None:
            wanted = wanted & (self.progress.side == side)
        return np.flatnonzero(wanted)

    def kind(self, row: int) -> SegmentClass:
        """The class of a row."""
        return SegmentClass(int(self.classes[row]))

    def counts(self, side: int) -> dict[SegmentClass, int]:
        """How many segments one side sent of each class, those that there are."""
        found = np.bincount(self.classes[self.progress.side == side], minlength=len(SegmentClass))
        return {kind: int(found[kind]) for kind in SegmentClass if found[kind]}

    @cached_property
    def repeats(self) -> tuple[Repeat, ...]:
        """What both sides sent again, in the order of the capture."""
        found = []
        for row in self.rows(SegmentClass.RETRANSMISSION, SegmentClass.FILLS_HOLE).tolist():
            found.append(
                Repeat(
                    row=row,
                    first=self._first_with(row),
                    side=int(self.progress.side[row]),
                    kind=self.kind(row),
                    reason=RepeatReason(int(self.reasons[row])),
                    needless=Needless(int(self.needless[row])),
                    timer=bool(self.marks[row] & SegmentMark.TIMER),
                )
            )
        return tuple(found)

    def repeats_of(self, side: int) -> tuple[Repeat, ...]:
        """What one side sent again."""
        return tuple(one for one in self.repeats if one.side == side)

    def _first_with(self, row: int) -> int:
        """The first row of the same side that has the first byte of `row`."""
        rows, position = self._new[int(self.progress.side[row])], self.progress.position
        index = int(np.searchsorted(position[rows], position[row], "right"))
        if index and self.progress.end[rows[index - 1]] > position[row]:
            return min(int(rows[index - 1]), row)
        return row

    @cached_property
    def _new(self) -> tuple[Rows, Rows]:
        """The rows with sequence numbers never seen before, by position, of both sides."""
        found = []
        for side in (0, 1):
            rows = self.rows(
                SegmentClass.NEW_DATA, SegmentClass.OUT_OF_WINDOW, SegmentClass.WINDOW_PROBE,
                SegmentClass.FILLS_HOLE, SegmentClass.REORDERED, side=side,
            )  # fmt: skip
            rows = rows[(self.progress.spans[rows] > 0) & ~self.progress.strays[rows]]
            found.append(rows[np.argsort(self.progress.position[rows], kind="stable")])
        return found[0], found[1]


def analyse(connection: Analysable, *, vantage: VantagePoint | None = None) -> Analysis:
    """Class every segment of a connection.

    vantage: where the capture was taken; None: as the trace tells.
    """
    return examine(connection.table, lambda row: connection.segments[row], vantage)


def examine(
    table: SegmentTable,
    segment_of: Callable[[int], Segment],
    vantage: VantagePoint | None = None,
) -> Analysis:
    """`analyse` of a table of one connection; `segment_of` gives the segment of a row."""
    progress, look = look_over(table, segment_of)
    legs = legs_of(progress, unclassed(look))
    reasons, needless = np.zeros((2, len(table)), np.uint8)
    if look.behind.any():
        class_behind(progress, look, lambda _: legs.total)
        for side in (0, 1):
            again = SentAgain(progress, look, side, legs)
            if len(again.rows):
                reasons[again.rows] = again.reasons()
                needless[again.rows] = again.needless()
    return Analysis(
        table=table,
        progress=progress,
        classes=look.classes,
        reasons=reasons,
        needless=needless,
        marks=look.marks,
        legs=legs,
        vantage=legs.vantage if vantage is None else vantage,
    )


def look_over(
    table: SegmentTable, segment_of: Callable[[int], Segment]
) -> tuple[SequenceProgress, FirstLook]:
    """How far all sides had come, and a first look at each row; copies are told from others.

    For a table of any number of connections; `segment_of` gives the segment of a row.
    """
    progress = SequenceProgress(table)
    look = first_look(progress)
    copies = copies_among(progress, suspects(progress, look), segment_of)
    if copies:
        ignored = np.zeros(len(table), np.bool_)
        ignored[list(copies)] = True
        progress = SequenceProgress(table, ignored)
        look = first_look(progress)
        for row, kind in copies.items():
            look.classes[row] = kind
    return progress, look


def unclassed(look: FirstLook) -> Codes:
    """The classes before what lies behind is classed: all of that may have been sent again."""
    return np.where(look.behind, np.uint8(SegmentClass.RETRANSMISSION), look.classes)


def suspects(progress: SequenceProgress, look: FirstLook) -> Mask:
    """The rows that could be copies of earlier ones: they bring nothing new."""
    bare = progress.spans == 0
    repeated = bare & (progress.acknowledged <= progress.before(progress.acked))
    found: Mask = look.behind | repeated | progress.strays | progress.probes
    found |= look.classes == SegmentClass.KEEPALIVE
    found |= look.classes == SegmentClass.OTHER
    return found & (progress.before(progress.last_row(~progress.ignored), -1) >= 0)


__all__ = [
    "NOTHING",
    "Analysable",
    "Analysis",
    "Repeat",
    "analyse",
    "examine",
    "look_over",
    "unclassed",
]
