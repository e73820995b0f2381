"""The classes of all segments of a capture at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from testbed.trace.analysis.analysis import look_over, unclassed
from testbed.trace.analysis.behind import class_behind
from testbed.trace.analysis.ordinary import FirstLook
from testbed.trace.analysis.progress import SequenceProgress
from testbed.trace.analysis.vantage import legs_of
from testbed.trace.segments import Segment
from testbed.trace.table import SegmentTable

_ROWS_AT_ONCE: Final = 1 << 15
"""Few enough for the processor's cache, many enough for numpy."""


@dataclass(frozen=True, eq=False)
class ClassedTogether:
    """Some connections with the class of each segment, the same as `analyse` says of each alone.

    rows: of the whole table, sorted by connection; `progress` and `classes` are of those.
    """

    rows: NDArray[np.intp]
    progress: SequenceProgress
    classes: NDArray[np.uint8]


def class_together(
    table: SegmentTable, segment_of: Callable[[int], Segment]
) -> Iterator[ClassedTogether]:
    """All connections of a table in order, many at a time; memory does not grow with the table.

    segment_of: gives the segment of a row; it is asked for where one may be a copy of another.
    """
    order, starts = table.by_connection
    starts = np.unique(starts)
    begin = 0
    while begin < len(starts) - 1:
        most = starts[begin] + _ROWS_AT_ONCE
        end = max(begin + 1, int(np.searchsorted(starts, most, side="right")) - 1)
        yield _class(table, order[starts[begin] : starts[end]], segment_of)
        begin = end


def _class(
    table: SegmentTable, rows: NDArray[np.intp], segment_of: Callable[[int], Segment]
) -> ClassedTogether:
    progress, look = look_over(table.take(rows), lambda row: segment_of(int(rows[row])))
    class_behind(progress, look, lambda group: _round_trip(progress, look, group))
    return ClassedTogether(rows, progress, look.classes)


def _round_trip(progress: SequenceProgress, look: FirstLook, group: int) -> int:
    """ns of the whole path of one of the connections; -1 where unknown."""
    bounds = np.append(progress.starts, len(progress.side))
    own = slice(int(bounds[group]), int(bounds[group + 1]))
    alone = SequenceProgress(progress.table.take(own), progress.ignored[own])
    return legs_of(alone, unclassed(look)[own]).total
