"""Where the rows of a ladder stand on paper: time downwards, close where it can be."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

from testbed.report.ladder import AT_NODE, Arrow, Ladder, Silence

_PER_MS = 1.6
_SAME_HOP = 36.0
_OTHER_HOP = 17.0
_MOST = 44.0
_SILENCE = 52.0
_MARGIN = 20.0
_SLOPE = 9.0
"""Drop of an arrow of which one end was not captured."""


class TimeScale:
    """Vertical positions in pixels, from `top` on; `silence` maps a pause to its band."""

    def __init__(self, ladder: Ladder, top: float) -> None:
        self._times: list[float] = []
        self._heights: list[float] = []
        self.silence: dict[float, tuple[float, float]] = {}
        self.bottom = top
        hops = [frozenset(pair) for pair in pairwise(ladder.columns)]
        last_on = dict.fromkeys(hops, -_SAME_HOP)
        last = 0.0
        for row in ladder.rows:
            if isinstance(row, Silence):
                begin = self.bottom + _SLOPE + _MARGIN
                self.bottom = begin + _SILENCE
                self.silence[row.time] = begin, self.bottom
                continue
            # A mark beside a node takes the place of an arrow on the node's other hop.
            beside = any(mark.kind in AT_NODE for mark in row.marks)
            taken = hops if beside else [frozenset((row.source, row.target))]
            y = self.bottom
            if self._times:
                y += min(max((row.time - last) * _PER_MS, _OTHER_HOP), _MOST)
                y = max(y, *(last_on[hop] + _SAME_HOP for hop in taken))
            self._times.append(row.time)
            self._heights.append(y)
            last_on.update(dict.fromkeys(taken, self._end_of(row, y)))
            last, self.bottom = row.time, y
        self.bottom = max([self.bottom, *last_on.values()]) + _SLOPE

    def ends(self, row: Arrow) -> tuple[float, float]:
        """Height of an arrow at its source and at its target."""
        if row.sent is None:
            y = self._at(row.time)
            return y - _SLOPE, y
        y = self._at(row.sent)
        if row.received is None:
            return y, y + _SLOPE
        return y, max(self._at(row.received), y + 1)

    def _end_of(self, row: Arrow, y: float) -> float:
        return y + _SLOPE if row.sent is not None and row.received is None else y

    def _at(self, time: float) -> float:
        """Height of a moment, between the rows before and after it."""
        index = bisect_right(self._times, time)
        if index == 0:
            return self._heights[0]
        before, y = self._times[index - 1], self._heights[index - 1]
        if index == len(self._times):
            return y + min((time - before) * _PER_MS, _MOST)
        after, below = self._times[index], self._heights[index]
        return y + (below - y) * (time - before) / (after - before)
