"""Which segments of a long connection tell its story."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from testbed.report.story import Episode, Story
from testbed.trace import Connection, SegmentMark
from testbed.wire.flags import FIN, RST

MOST_TELLING: Final = 40
"""Segments: a page or two."""
_OPENING, _CLOSE = 6, 4
_BEFORE, _AFTER = 3, 2


def telling_frames(connection: Connection, story: Story) -> frozenset[int]:
    """The frames of the handshake, around episodes of losses and closed windows, and of the close.

    All of a short connection; of a long one `MOST_TELLING`: with room to spare, its beginning.
    """
    number = connection.analysis.table.number
    chosen: set[int] = set()
    for rows in _excerpts(connection, story):
        wanted = {row for row in rows if 0 <= row < len(number)}
        if len(chosen | wanted) <= MOST_TELLING:
            chosen |= wanted
    rest = (row for row in range(len(number)) if row not in chosen)
    chosen.update(row for row, _ in zip(rest, range(MOST_TELLING - len(chosen)), strict=False))
    return frozenset(number[sorted(chosen)].tolist())


def _excerpts(connection: Connection, story: Story) -> Iterator[range | list[int]]:
    """Rows that belong together, the most telling first."""
    analysis = connection.analysis
    table = analysis.table
    yield range(_OPENING)
    ends = np.flatnonzero(table.flags & (FIN | RST))
    yield [*ends[:1].tolist(), *range(len(table) - _CLOSE, len(table))]
    for one in story.episodes:
        yield _around_episode(connection, one)
    for row in analysis.marked(SegmentMark.ZERO_WINDOW).tolist():
        yield range(row - 1, row + _AFTER)


def _around_episode(connection: Connection, episode: Episode) -> list[int]:
    """What was sent first, and around the first and the last of what was sent again."""
    analysis = connection.analysis
    rows = np.searchsorted(analysis.table.number, episode.numbers).tolist()
    sent = next(one.first for one in analysis.repeats if one.row == rows[0])
    return [
        sent,
        *range(rows[0] - _BEFORE, rows[0] + _AFTER),
        *range(rows[-1], rows[-1] + _AFTER),
    ]
