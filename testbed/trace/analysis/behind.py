"""Data that lies behind what was sent before it: sent again, reordered, or filling a hole."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from testbed.trace.analysis.classes import SegmentClass
from testbed.trace.analysis.holes import BEGINNING, Holes
from testbed.trace.analysis.ordinary import FirstLook
from testbed.trace.analysis.progress import SequenceProgress
from testbed.trace.table import OptionBit

DISORDER: Final = 3_000_000
"""ns by which a path reorders, where no round trip is known."""
_OF_RTT: Final = 0.8
"""Of a round trip: sooner than that nobody can have sent again what an ACK told to be missing."""
_HALF_ID: Final = 1 << 15
_NEAR_IDS: Final = 64


def class_behind(progress: SequenceProgress, look: FirstLook, rtt_of: Callable[[int], int]) -> None:
    """Set the class of the rows in `look.behind`, in place.

    rtt_of: the round trip of the whole path of a connection in ns, -1 where unknown; it is asked
    for only where nothing else tells what was sent first.
    """
    rows = np.flatnonzero(look.behind | look.gaps)
    if not look.behind.any():
        return
    sides = progress.group[rows] * 2 + progress.side[rows]
    order = np.argsort(sides, kind="stable")
    bounds = np.flatnonzero(np.diff(sides[order])) + 1
    for one in np.split(rows[order], bounds):
        if look.behind[one].any():
            _Behind(progress, look, one, rtt_of).run()


class _Behind:
    """The unusual rows of one direction."""

    def __init__(
        self,
        progress: SequenceProgress,
        look: FirstLook,
        rows: NDArray[np.intp],
        rtt_of: Callable[[int], int],
    ) -> None:
        self.progress, self.look, self.rows = progress, look, rows
        self._rtt_of = rtt_of
        self.holes = Holes()
        start = int(progress.starts[progress.group[rows[0]]])
        stop = int(np.searchsorted(progress.group, progress.group[rows[0]], side="right"))
        own = np.flatnonzero(progress.side[start:stop] == progress.side[rows[0]]) + start
        occupied = own[(progress.spans[own] > 0) & ~progress.strays[own]]
        first = occupied[0]
        self.holes.open(BEGINNING, int(progress.position[first]), int(first))
        self.occupied = occupied
        self.counts_ids = _counts_ids(progress, occupied)

    def run(self) -> None:
        progress, rows, classes = self.progress, self.rows, self.look.classes
        position, end = progress.position[rows].tolist(), progress.end[rows].tolist()
        sent = progress.sent_before[rows].tolist()
        behind, gaps = self.look.behind[rows].tolist(), self.look.gaps[rows].tolist()
        for row, start, stop, before, is_behind, is_gap in zip(
            rows.tolist(), position, end, sent, behind, gaps, strict=True
        ):
            if is_gap:
                self.holes.open(before, start, row)
            if is_behind:
                below = min(stop, before)  # the rest is new
                if below - start > self.holes.unseen(start, below):
                    classes[row] = SegmentClass.RETRANSMISSION
                elif self._was_sent_again(row, self.holes.shown_by(start, stop)):
                    classes[row] = SegmentClass.FILLS_HOLE
                else:
                    classes[row] = SegmentClass.REORDERED
                self.holes.fill(start, stop)

    @cached_property
    def soonest(self) -> int:
        """ns in which nobody can have sent again what was told to be missing."""
        rtt = self._rtt_of(int(self.progress.group[self.rows[0]]))
        return DISORDER if rtt < 0 else int(rtt * _OF_RTT)

    def _was_sent_again(self, row: int, shown: int | None) -> bool:
        """Whether data never seen was sent after what showed that it is missing."""
        if shown is None:
            shown = self._acknowledged_at(row)
        elif (later := self._by_marks(row, shown)) is not None:
            return later
        time = self.progress.table.time
        return int(time[row]) - int(time[shown]) >= self.soonest

    def _by_marks(self, row: int, other: int) -> bool | None:
        """Whether the sender's counters tell that `row` was sent after `other`; None: they do not.

        The IP identification of most hosts counts packets; TCP's time stamps count time.
        """
        table = self.progress.table
        if self.counts_ids:
            apart = (int(table.ip_id[row]) - int(table.ip_id[other])) % (2 * _HALF_ID)
            if apart:
                return apart < _HALF_ID
        if table.options[row] & table.options[other] & OptionBit.TIMESTAMPS:
            apart = (int(table.ts_value[row]) - int(table.ts_value[other])) & 0xFFFF_FFFF
            if apart:
                return apart < 1 << 31
        return None

    def _acknowledged_at(self, row: int) -> int:
        """The row that acknowledged this data before it was seen."""
        progress = self.progress
        start = int(progress.starts[progress.group[row]])
        acked = progress.acked[1 - progress.side[row]][start:row]
        return start + int(np.searchsorted(acked, progress.end[row]))


def _counts_ids(progress: SequenceProgress, occupied: NDArray[np.intp]) -> bool:
    """Whether the IP identifications of a sender's segments mostly go up by little."""
    ids = progress.table.ip_id[occupied]
    steps = np.diff(ids[ids > 0].astype(np.uint16))
    return len(steps) > 1 and float(np.mean((steps > 0) & (steps <= _NEAR_IDS))) > 0.6
