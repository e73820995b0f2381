"""Packets that a capture holds twice, found among many segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from testbed.trace.analysis.classes import SegmentClass
from testbed.trace.analysis.progress import Mask, SequenceProgress
from testbed.trace.copies import CopyKind, Originals
from testbed.trace.segments import Segment
from testbed.trace.table import OptionBit

_CLASS: Final = {
    CopyKind.FORWARDED: SegmentClass.COPY,
    CopyKind.REPEATED: SegmentClass.DUPLICATE,
}


def copies_among(
    progress: SequenceProgress, suspects: Mask, segment_of: Callable[[int], Segment]
) -> dict[int, SegmentClass]:
    """The class of each row that is a copy of an earlier one.

    suspects: the rows that repeat sequence number or ACK of an earlier one; a copy is one of them.
    """
    rows = alike(progress, suspects)
    originals: dict[tuple[int, int], Originals] = {}
    found = {}
    for row in rows.tolist():
        side = int(progress.group[row]), int(progress.side[row])
        kind = originals.setdefault(side, Originals()).recognise(segment_of(row))
        if kind is not None:
            found[row] = _CLASS[kind]
    return found


def alike(progress: SequenceProgress, suspects: Mask) -> NDArray[np.intp]:
    """The suspects that are like another row in all that copies share, and those others."""
    if not suspects.any():
        return np.zeros(0, np.intp)
    table = progress.table
    sides = progress.group * 2 + progress.side
    number = np.where(table.length > 0, table.seq, ~table.ack).astype(np.int64)
    number |= sides << 32
    wanted = np.unique(number[suspects])
    place = np.minimum(np.searchsorted(wanted, number), len(wanted) - 1)
    rows = np.flatnonzero(wanted[place] == number)
    stamps = table.ts_value[rows].astype(np.int64) << 32 | table.ts_echo[rows]
    stamps = np.where(table.options[rows] & OptionBit.TIMESTAMPS, stamps ^ -1, 0)
    identified = table.ip_id[rows] > 0
    keys = np.stack(
        (
            sides[rows],
            table.seq[rows],
            table.ack[rows],
            table.flags[rows].astype(np.int64) << 32 | table.length[rows],
            np.where(identified, table.ip_id[rows], stamps),
        ),
        axis=1,
    )
    order = np.lexsort(keys.T)
    same = (np.diff(keys[order], axis=0) == 0).all(axis=1)
    alike = np.zeros(len(rows), np.bool_)
    alike[order[1:][same]] = True
    alike[order[:-1][same]] = True
    return rows[alike]
