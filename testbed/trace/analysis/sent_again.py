"""Why data was sent again, and whether that was needed."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

import numpy as np
from numpy.typing import NDArray

from testbed.trace.analysis.classes import (
    SENT_AGAIN,
    Needless,
    RepeatReason,
    SegmentClass,
    SegmentMark,
)
from testbed.trace.analysis.ordinary import FirstLook
from testbed.trace.analysis.progress import NOTHING, SequenceProgress
from testbed.trace.analysis.samples import Rows, advancing_acks, by_sequence, later
from testbed.trace.analysis.vantage import Legs
from testbed.trace.ranges import Ranges
from testbed.trace.table import OptionBit
from testbed.wire.flags import SYN

_RECENT: Final = 8
_PATIENCE: Final = 1.5
"""Round trips without ACK or data after which a timer has fired: RFC 8985 waits for two of them."""
_SHORTEST_TIMER: Final = 2_000_000
"""ns; the shortest timer of Linux (TCP_TIMEOUT_MIN)."""
_LEAST_RTO: Final = 200_000_000
"""ns; the least time-out of Linux (TCP_RTO_MIN). RFC 6298 has a second."""
_DUPLICATE_ACKS: Final = 3
_SURELY: Final = 0.8
"""Of the shortest round trip: sooner than that no ACK got there, and its effect back."""
_LONG_AGO: Final = np.iinfo(np.int64).min


class _Delivered:
    """Which transmission of what was sent again arrived last, for RACK (RFC 8985 section 6.2)."""

    def __init__(self, first_rows: list[int]) -> None:
        self._last_sent = first_rows
        self._open: list[tuple[int, int]] = []
        self._latest = -1

    def is_later(self, index: int, row: int, end: int, acked: int) -> bool:
        """Whether one arrived that was sent after the data of repeat `index`; takes note of it."""
        while self._open and self._open[0][0] <= acked:
            self._latest = max(self._latest, heappop(self._open)[1])
        heappush(self._open, (end, row))
        return self._latest > self._last_sent[index]


class SentAgain:
    """What one side of one connection sent again.

    progress, look: of the one connection; sender: its side, 0 or 1.
    """

    def __init__(
        self, progress: SequenceProgress, look: FirstLook, sender: int, legs: Legs
    ) -> None:
        self.progress, self.sender = progress, sender
        self.classes, self.marks = look.classes, look.marks
        classes = look.classes
        own = progress.side == sender
        self.rows = np.flatnonzero(own & np.isin(classes, SENT_AGAIN))
        self.rtt, beyond = legs.total, max(0, legs.to(sender))
        self.beyond = beyond
        self.own_data = np.flatnonzero(own & (progress.spans > 0) & ~progress.strays)
        self.acks = np.flatnonzero(~own & progress.has_ack)
        self.advances = advancing_acks(progress, sender)
        # What the sender could know of when it sent each row: ACKs have to get there from here.
        time = progress.table.time
        reached = time[self.rows] - int(beyond * _SURELY)
        known = np.searchsorted(np.maximum.accumulate(time), reached, side="right") - 1
        self.known = np.clip(known, 0, np.maximum(self.rows - 1, 0))

    # -- reasons -------------------------------------------------------------------------------

    def reasons(self) -> list[RepeatReason]:
        """The reason of each of `rows`; marks the ones with which a timer fired."""
        progress, rows = self.progress, self.rows
        una = progress.acked[1 - self.sender][self.known].tolist()
        sacked = progress.sacked[1 - self.sender][self.known].tolist()
        high = progress.sent_before[rows].tolist()
        duplicates = self._duplicates().tolist()
        quiet = self._quiet().tolist()
        patience = self._patience().tolist()
        recovery = loss = probed = NOTHING
        first_rows = self._first_rows().tolist()
        rack = _Delivered(first_rows)
        found = []
        for index, row in enumerate(rows.tolist()):
            start, end = int(progress.position[row]), int(progress.end[row])
            acked = una[index]
            recovery = NOTHING if acked >= recovery else recovery
            loss = NOTHING if acked >= loss else loss
            told = sacked[index] > end or duplicates[index] >= _DUPLICATE_ACKS or recovery > start
            told = rack.is_later(index, row, end, acked) or told
            first = start <= max(acked, 0) or start == 0
            if progress.flags[row] & SYN:
                reason, fired = RepeatReason.TIMEOUT, True
            elif acked == 1 == start and progress.flags[first_rows[index]] & SYN:
                reason, fired = RepeatReason.REFUSED, False
            elif quiet[index] >= patience[index]:
                tail = end >= high[index] and not told and loss == NOTHING
                alone = start <= acked
                early = not alone or quiet[index] < self._usual_timeout(patience[index])
                if tail and early and probed < high[index] and self._has_sack():
                    reason, fired, probed = RepeatReason.TAIL_LOSS_PROBE, True, high[index]
                elif first:
                    reason, fired = RepeatReason.TIMEOUT, True
                    loss, recovery = high[index], NOTHING
                else:
                    reason, fired = (RepeatReason.FAST if told else RepeatReason.UNKNOWN), False
                    if loss > start:
                        reason = RepeatReason.TIMEOUT
            elif loss > start:
                reason, fired = RepeatReason.TIMEOUT, False
            elif told or duplicates[index] or sacked[index] > start:
                reason, fired = RepeatReason.FAST, False
                recovery = max(recovery, high[index])
            else:
                reason, fired = RepeatReason.UNKNOWN, False
            if fired:
                self.marks[row] |= SegmentMark.TIMER
            found.append(reason)
        return found

    def _first_rows(self) -> Rows:
        """The row of the last new data that begins at or before each of `rows`; 0: none."""
        progress = self.progress
        fresh = self.own_data[self.classes[self.own_data] == SegmentClass.NEW_DATA]
        index = np.searchsorted(progress.position[fresh], progress.position[self.rows], "right") - 1
        if not len(fresh):
            return np.zeros(len(self.rows), np.intp)
        return np.where(index < 0, 0, fresh[np.maximum(index, 0)])

    def _duplicates(self) -> NDArray[np.int64]:
        """Duplicate ACKs before each row since the last ACK of something new."""
        duplicate = (self.classes == SegmentClass.DUPLICATE_ACK) & (
            self.progress.side != self.sender
        )
        total = np.cumsum(duplicate)
        last = np.searchsorted(self.advances, self.known, side="right") - 1
        at_advances = np.concatenate(([0], total[self.advances]))
        found: NDArray[np.int64] = total[self.known] - at_advances[last + 1]
        return found

    def _quiet(self) -> NDArray[np.int64]:
        """ns since the side sent or the other side acknowledged anything."""
        time = self.progress.table.time
        since = np.full(len(self.rows), _LONG_AGO)
        for events, until, delay in (
            (self.own_data, self.rows - 1, 0),
            (self.acks, self.known, self.beyond),
        ):
            last = np.searchsorted(events, until, side="right") - 1
            if len(events):
                moment = time[events[np.maximum(last, 0)]] + delay
                since = np.maximum(since, np.where(last < 0, _LONG_AGO, moment))
        return np.where(since == _LONG_AGO, 0, np.maximum(time[self.rows] - since, 0))

    def _patience(self) -> NDArray[np.float64]:
        """ns of quiet after which it was a timer."""
        time = self.progress.table.time
        data, acks = by_sequence(self.progress, self.classes, self.sender)
        rtts = time[acks] - time[data] + self.beyond
        found = []
        for row in self.rows.tolist():
            until = int(np.searchsorted(acks, row))
            recent = rtts[max(0, until - _RECENT) : until]
            usual = float(np.mean(recent)) if len(recent) else max(self.rtt, 0)
            found.append(max(usual * _PATIENCE, _SHORTEST_TIMER))
        return np.array(found)

    def _usual_timeout(self, patience: float) -> float:
        return patience / _PATIENCE + _LEAST_RTO

    def _has_sack(self) -> bool:
        table = self.progress.table
        syns = np.flatnonzero(self.progress.flags & SYN)
        permitted = (table.options[syns] & OptionBit.SACK_PERMITTED) != 0
        return bool(permitted.all()) if len(syns) else bool(len(table.sack_rows))

    # -- needless ones -------------------------------------------------------------------------

    def needless(self) -> list[Needless]:
        """Of each of `rows`, whether and how it turned out to be needless."""
        found = [Needless.NO] * len(self.rows)
        self._acknowledged_before(found)
        self._by_time_stamps(found)
        self._by_dsack(found)
        return found

    def _acknowledged_before(self, found: list[Needless]) -> None:
        progress, table = self.progress, self.progress.table
        has_blocks = table.sack_rows
        has_blocks = has_blocks[(progress.side[has_blocks] != self.sender)]
        has_blocks = has_blocks[(self.marks[has_blocks] & SegmentMark.DSACK) == 0].tolist()
        scoreboard = Ranges()
        taken = 0
        una = progress.acked[1 - self.sender]
        for index, row in enumerate(self.rows.tolist()):
            while taken < len(has_blocks) and has_blocks[taken] < row:
                scoreboard.add(*self._block(has_blocks[taken]))
                taken += 1
            start, end = int(progress.position[row]), int(progress.end[row])
            if end <= una[row] or scoreboard.covers(max(start, int(una[row])), end):
                found[index] = Needless.ACKNOWLEDGED

    def _block(self, row: int) -> tuple[int, int]:
        """The first SACK block of a row, as positions."""
        table = self.progress.table
        left, right = (int(edge) for edge in table.sack_of(row)[0])
        base = int(self.progress.acknowledged[row]) - int(table.ack[row])
        start = base + left
        if start + (1 << 31) < int(self.progress.acknowledged[row]):
            start += 1 << 32
        elif start - (1 << 31) >= int(self.progress.acknowledged[row]):
            start -= 1 << 32
        return start, start + (right - left & 0xFFFF_FFFF)

    def _by_time_stamps(self, found: list[Needless]) -> None:
        """Eifel: the first ACK that covers it echoes an earlier transmission."""
        progress, table = self.progress, self.progress.table
        acked = progress.acknowledged[self.advances]
        first = np.searchsorted(acked, progress.end[self.rows]).tolist()
        after = np.searchsorted(self.advances, self.rows).tolist()
        for index, row in enumerate(self.rows.tolist()):
            answer = first[index]
            if answer >= len(self.advances) or answer < after[index]:
                continue
            ack = int(self.advances[answer])
            before = int(acked[answer - 1]) if answer else NOTHING
            both = table.options[row] & table.options[ack] & OptionBit.TIMESTAMPS
            if not both or not table.ts_echo[ack] or before < progress.position[row]:
                continue
            if later(int(table.ts_value[row]), int(table.ts_echo[ack])):
                found[index] = Needless.TIME_STAMP

    def _by_dsack(self, found: list[Needless]) -> None:
        """Each report of data that came twice is about the latest transmission before it."""
        reports = np.flatnonzero((self.marks & SegmentMark.DSACK) != 0)
        reports = reports[self.progress.side[reports] != self.sender]
        if not len(reports):
            return
        starts = self.progress.position[self.rows]
        order = np.argsort(starts, kind="stable")
        for report in reports.tolist():
            left, right = self._block(report)
            low = int(np.searchsorted(starts[order], left))
            high = int(np.searchsorted(starts[order], right))
            named = [int(one) for one in order[low:high] if self.rows[one] < report]
            free = [one for one in named if found[one] is not Needless.DSACK]
            if free:
                found[max(free)] = Needless.DSACK
