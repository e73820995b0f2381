"""How much each side sent, of many connections at once."""

from __future__ import annotations

import numpy as np

from testbed.trace.analysis.progress import NEVER, STRIDE, Mask, Positions, SequenceProgress, firsts
from testbed.wire.flags import RST, SYN


def unique_bytes(progress: SequenceProgress) -> Positions:
    """Bytes of payload, each counted once, without copies: of shape (connections, 2), by side."""
    table = progress.table
    kept = ~progress.ignored & (table.length > 0) & (table.flags & RST == 0)
    rows = np.flatnonzero(kept)
    sides = progress.key[rows]
    start = progress.position[rows] + (table.flags[rows] >> 1 & 1)
    start += sides * STRIDE  # keeps the sides apart from each other
    order = np.argsort(start, kind="stable")
    start, end = start[order], (start + table.length[rows])[order]
    reached = np.maximum.accumulate(np.concatenate((start[:1], end[:-1])))
    new = np.maximum(end - np.maximum(start, reached), 0)
    return by_side(progress, sides[order], new)


def oversized(progress: SequenceProgress) -> Mask:
    """The segments larger than the other side's MSS, by the SYN before them; no copies."""
    table = progress.table
    told = np.flatnonzero((table.flags & SYN != 0) & (table.mss > 0) & ~progress.ignored)
    first = firsts(progress.key[told] ^ 1, told, len(progress.starts) * 2)
    known = first < NEVER
    most = np.where(known, table.mss[np.where(known, first, 0)] if len(table) else 0, 1 << 16)
    larger = np.flatnonzero(table.length > most[progress.key])
    larger = larger[larger > first[progress.key[larger]]]
    found = np.zeros(len(table), np.bool_)
    found[larger] = True
    return found & ~progress.ignored


def by_side(
    progress: SequenceProgress, sides: Positions, values: Positions | None = None
) -> Positions:
    """How many rows (or the sum of their values) each side has; sides: `progress.key` of them."""
    count = len(progress.starts) * 2
    if values is None:
        found = np.bincount(sides, minlength=count)
    else:
        found = np.zeros(count, np.int64)
        np.add.at(found, sides, values)
    return found.reshape(-1, 2)
