"""Segments as columns of numpy arrays, for whatever looks at all of them at once."""

from testbed.trace.table.from_segments import segments_in, segments_of, table_of
from testbed.trace.table.segment_table import (
    NO_IDENTIFICATION,
    NO_WINDOW_SCALE,
    Column,
    Integers,
    OptionBit,
    SegmentTable,
    unwrapped,
)

__all__ = [
    "NO_IDENTIFICATION",
    "NO_WINDOW_SCALE",
    "Column",
    "Integers",
    "OptionBit",
    "SegmentTable",
    "segments_in",
    "segments_of",
    "table_of",
    "unwrapped",
]
