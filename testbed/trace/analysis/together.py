"""The classes of all segments of a capture at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from testbed.trace.analysis.analysis import examine, suspects
from testbed.trace.analysis.ordinary import first_look
from testbed.trace.analysis.progress import SequenceProgress
from testbed.trace.analysis.repeats import alike
from testbed.trace.segments import Segment
from testbed.trace.table import SegmentTable

_ROWS_AT_ONCE: Final = 1 << 15


def classes_of(table: SegmentTable, segment_of: Callable[[int], Segment]) -> NDArray[np.uint8]:
    """The `SegmentClass` of each row of a table of many connections, in the order of its rows.

    Connections in which nothing unusual happened are classed together, the others singly: the
    same as `analyse` says of each. segment_of: gives the segment of a row.
    """
    found = np.zeros(len(table), np.uint8)
    order = np.argsort(table.connection, kind="stable")
    starts = np.flatnonzero(np.diff(table.connection[order], prepend=-1, append=-1))
    begin = 0
    while begin < len(starts) - 1:
        most = starts[begin] + _ROWS_AT_ONCE
        end = max(begin + 1, int(np.searchsorted(starts, most, side="right")) - 1)
        rows = order[starts[begin] : starts[end]]
        found[rows] = _classes(table.take(rows), rows, segment_of)
        begin = end
    return found


class _Within:
    """The segment of a row of one connection."""

    def __init__(self, segment_of: Callable[[int], Segment], rows: NDArray[np.intp]) -> None:
        self._segment_of, self._rows = segment_of, rows

    def __call__(self, row: int) -> Segment:
        return self._segment_of(int(self._rows[row]))


def _classes(
    table: SegmentTable, rows: NDArray[np.intp], segment_of: Callable[[int], Segment]
) -> NDArray[np.uint8]:
    progress = SequenceProgress(table)
    look = first_look(progress)
    unusual = look.behind.copy()
    unusual[alike(progress, suspects(progress, look))] = True
    bounds = np.append(progress.starts, len(rows))
    for group in np.unique(progress.group[unusual]).tolist():
        own = slice(int(bounds[group]), int(bounds[group + 1]))
        single = examine(table.take(own), _Within(segment_of, rows[own]))
        look.classes[own] = single.classes
    return look.classes
