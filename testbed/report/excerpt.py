"""A part of a connection as a ladder, with what each segment is."""

from __future__ import annotations

from typing import Final

from testbed.report.ladder import Arrow, Ladder, Mark, MarkKind, kind_of, label_of
from testbed.report.ladder_terminal import draw
from testbed.trace import Connection, SegmentClass

_USUAL: Final = {SegmentClass.NEW_DATA, SegmentClass.PURE_ACK, SegmentClass.RESET}
_WIDTH: Final = 100


def draw_excerpt(connection: Connection, first: int, after: int, pointed_at: int) -> str:
    """The segments of rows [first, after) as text; the one of row `pointed_at` is marked.

    Times are since the start of the connection.
    """
    ends = connection.initiator, connection.responder
    names = tuple(one.address for one in ends)
    if names[0] == names[1]:
        names = tuple(map(str, ends))
    rows = range(first, min(after, len(connection.segments)))
    arrows = tuple(_arrow(connection, row, names, row == pointed_at) for row in rows)
    ladder = Ladder(
        title=f"packets {_number(connection, rows[0])} to {_number(connection, rows[-1])}",
        columns=names,
        rows=arrows,
        omitted=0,
    )
    return str(draw(ladder, _WIDTH))


def _number(connection: Connection, row: int) -> int:
    return connection.segments[row].number


def _arrow(connection: Connection, row: int, names: tuple[str, ...], pointed_at: bool) -> Arrow:
    segment, kind = connection.segments[row], connection.analysis.kind(row)
    outward = connection.is_outward(segment)
    time = (segment.time - connection.start) / 1e6
    what = "" if kind in _USUAL else kind.words
    mark = Mark(MarkKind.RETRANSMISSION, f"packet {segment.number}: this one")
    return Arrow(
        time=time,
        source=names[not outward],
        target=names[outward],
        kind=kind_of(segment),
        label=label_of(segment, "" if kind is SegmentClass.ZERO_WINDOW else what),
        seq=connection.relative_seq(segment),
        ack=connection.relative_ack(segment),
        length=segment.length,
        journey=row,
        sent=time,
        marks=(mark,) if pointed_at else (),
        window=connection.window_of(segment),
    )
