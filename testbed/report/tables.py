"""A trace as a table: one row per connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from testbed.report.remarks import remarks
from testbed.report.wording import clock, count, volume
from testbed.trace import Connection, Trace


class ConnectionRow(msgspec.Struct, frozen=True):
    """One connection in plain numbers.

    number: position in its trace, for `testbed ladder --connection`.
    around: the VLANs and tunnels that it is in, from the outside in.
    guessed: the initiator is inferred, its SYN is missing.
    start: of the first segment, ISO 8601 with nanoseconds, UTC.
    start_s: the same since the first packet of the capture.
    duration_s: first to last segment.
    rtt_*_ms: from SYN to SYN/ACK, and from SYN/ACK to ACK, as seen where the capture was taken;
    None when one of the three is missing, or in doubt (`rtt_doubt` says why).
    bytes_*: payload, each byte once.
    segments_*: all, copies included.
    copies: segments that are in the capture twice.
    oversized: segments larger than the MSS of the other side.
    """

    number: int
    initiator: str
    responder: str
    around: tuple[str, ...]
    guessed: bool
    start: str
    start_s: float
    duration_s: float
    rtt_to_responder_ms: float | None
    rtt_to_initiator_ms: float | None
    rtt_doubt: str
    bytes_by_initiator: int
    bytes_by_responder: int
    segments_by_initiator: int
    segments_by_responder: int
    retransmissions_by_initiator: int
    retransmissions_by_responder: int
    copies: int
    oversized: int
    end: str

    @property
    def bytes(self) -> int:
        return self.bytes_by_initiator + self.bytes_by_responder

    @property
    def segments(self) -> int:
        return self.segments_by_initiator + self.segments_by_responder

    @property
    def retransmissions(self) -> int:
        return self.retransmissions_by_initiator + self.retransmissions_by_responder

    @property
    def rtt_ms(self) -> float | None:
        """Of both parts; None where one is not known."""
        there, back = self.rtt_to_responder_ms, self.rtt_to_initiator_ms
        return None if there is None or back is None else there + back


#: What rows can be sorted by: largest first, `start` as in time.
SORT_KEYS: Final[dict[str, Callable[[ConnectionRow], float]]] = {
    "start": lambda row: row.start_s,
    "duration": lambda row: -row.duration_s,
    "rtt": lambda row: -(row.rtt_ms or 0.0),
    "bytes": lambda row: -row.bytes,
    "segments": lambda row: -row.segments,
    "retransmissions": lambda row: -row.retransmissions,
}


class TraceTable:
    """What `trace_table` returns: print it with rich, or take `rows` or `data()` of it.

    It is as wide as its longest row where the console is, and two lines a row where it is not.
    hidden: connections that are not among `rows`.
    """

    def __init__(self, trace: Trace, rows: Sequence[ConnectionRow]) -> None:
        self.trace = trace
        self.rows = tuple(rows)
        self.hidden = len(trace.connections) - len(self.rows)

    def data(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        trace = self.trace
        return {
            "file": str(trace.path),
            "format": trace.capture.format,
            "start": None if trace.start is None else iso_time(trace.start),
            "end": None if trace.end is None else iso_time(trace.end),
            "packets": trace.packets,
            "segments": len(trace.table),
            "other": trace.other,
            "others": dict(trace.others),
            "not_understood": dict(trace.unread),
            "malformed": trace.malformed,
            "cut": trace.cut,
            "lost": trace.capture.lost,
            "truncated": trace.truncated,
            "damage": trace.damage,
            "back_in_time": trace.back_in_time,
            "connections": [msgspec.to_builtins(row) for row in self.rows],
        }

    def remarks(self) -> list[str]:
        """What the reader must know about the capture before trusting the table."""
        found = list(remarks(self.trace))
        if self.hidden:
            found.insert(0, f"{count(self.hidden, 'more connection')} not shown.")
        return found

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        path = str(self.trace.path)
        title = Text("standard input" if path == "-" else path, overflow="fold")
        wide = _table(title, _WIDE, map(_wide_cells, self.rows), boxed=True)
        unbounded = options.update(max_width=_ANY_WIDTH)
        if Measurement.get(console, unbounded, wide).maximum <= options.max_width:
            yield wide
        else:
            yield _table(title, _NARROW, map(_narrow_cells, self.rows), boxed=False)
        yield from (Text(remark) for remark in self.remarks())


def trace_table(
    trace: Trace,
    *,
    wanted: Callable[[Connection], bool] | None = None,
    sort: str = "",
    limit: int | None = None,
) -> TraceTable:
    """One row per connection of the trace.

    wanted: tells which connections to keep; None for all. sort: one of `SORT_KEYS`, as in the
    capture when empty. limit: the most rows.
    """
    kept = (one for one in trace.connections if wanted is None or wanted(one))
    rows = [connection_row(trace, one) for one in kept]
    if sort:
        rows.sort(key=SORT_KEYS[sort])
    return TraceTable(trace, rows[:limit])


def iso_time(ns: int) -> str:
    """ns since the epoch as ISO 8601 in UTC, with nanoseconds.

    A year that has not four digits has a sign, as in the expanded representation: `+36812-02-20`.
    """
    seconds, rest = divmod(ns, 1_000_000_000)
    cycles, within = divmod(seconds, _CALENDAR_CYCLE)
    moment = datetime.fromtimestamp(within, UTC)
    year = moment.year + 400 * cycles
    digits = f"{year:04}" if 0 <= year <= 9999 else f"{year:+05}"
    return f"{digits}-{moment:%m-%dT%H:%M:%S}.{rest:09}Z"


_CALENDAR_CYCLE: Final = 146_097 * 86_400
"""s in 400 years, after which the Gregorian calendar repeats."""
_ANY_WIDTH: Final = 10_000
_WIDE: Final = (
    ("#", True),
    ("initiator", False),
    ("responder", False),
    ("start", True),
    ("duration", True),
    ("RTT", True),
    ("bytes →", True),
    ("← bytes", True),
    ("segments", True),
    ("retrans.", True),
    ("end", False),
)
_NARROW: Final = (
    ("#", True),
    ("initiator\nresponder", False),
    ("start\nduration", True),
    ("RTT", True),
    ("bytes", True),
    ("segm.", True),
    ("retr.", True),
    ("end", False),
)


def _table(
    title: Text,
    columns: Iterable[tuple[str, bool]],
    rows: Iterable[Sequence[RenderableType]],
    *,
    boxed: bool,
) -> Table:
    if boxed:
        table = Table(title=title, title_justify="left")
    else:
        table = Table(
            title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
        )
    for heading, right in columns:
        fold = not boxed and heading.startswith("initiator")
        table.add_column(
            heading,
            justify="right" if right else "left",
            no_wrap=not fold,
            overflow="fold" if fold else "ellipsis",
        )
    for row in rows:
        table.add_row(*row)
    return table


def _wide_cells(row: ConnectionRow) -> tuple[Text, ...]:
    there, back = row.rtt_to_responder_ms, row.rtt_to_initiator_ms
    rtt = "-"
    if there is not None and back is not None:
        longest = there + back
        *_, unit = clock(longest).split()
        rtt = " + ".join(clock(one, longest).removesuffix(f" {unit}") for one in (there, back))
        rtt += f" {unit}"
    elif row.rtt_doubt:
        rtt = "?"
    around = "".join(f"\n{one}" for one in row.around)
    return _styled(
        row,
        (
            str(row.number),
            f"{row.initiator}{'*' if row.guessed else ''}{around}",
            row.responder,
            f"{row.start_s:.3f} s",
            f"{row.duration_s:.3f} s",
            rtt,
            f"{row.bytes_by_initiator:,}",
            f"{row.bytes_by_responder:,}",
            f"{row.segments_by_initiator} + {row.segments_by_responder}",
            f"{row.retransmissions_by_initiator} + {row.retransmissions_by_responder}",
            row.end,
        ),
    )


def _narrow_cells(row: ConnectionRow) -> tuple[Text, ...]:
    """Two lines: what goes to the responder above, what comes back below."""
    parts = row.rtt_to_responder_ms, row.rtt_to_initiator_ms
    rtt = "\n".join("?" if row.rtt_doubt and one is None else _short(one) for one in parts)
    around = "".join(f"\n{one}" for one in row.around)
    return _styled(
        row,
        (
            str(row.number),
            f"{row.initiator}{'*' if row.guessed else ''}\n{row.responder}{around}",
            f"{row.start_s:.3f} s\n{row.duration_s:.3f} s",
            rtt,
            f"{volume(row.bytes_by_initiator)} →\n{volume(row.bytes_by_responder)} ←",
            f"{row.segments_by_initiator}\n{row.segments_by_responder}",
            f"{row.retransmissions_by_initiator}\n{row.retransmissions_by_responder}",
            row.end.replace("-", "-\n"),
        ),
    )


def _short(ms: float | None) -> str:
    return "-" if ms is None else clock(ms)


def _styled(row: ConnectionRow, values: Sequence[str]) -> tuple[Text, ...]:
    """The cells, with what is bad news coloured; the last two are retransmissions and end."""
    cells = tuple(Text(value) for value in values)
    if row.retransmissions:
        cells[-2].stylize("bold yellow")
    if row.end == "RST":
        cells[-1].stylize("magenta")
    return cells


def connection_row(trace: Trace, connection: Connection) -> ConnectionRow:
    """A connection of a trace in plain numbers."""
    summary, index = trace.summary, connection.number - 1
    rtt = summary.rtts[index]
    start = connection.start
    sent, repeated = summary.unique_bytes[index], summary.retransmissions[index]
    return ConnectionRow(
        number=connection.number,
        initiator=str(connection.initiator),
        responder=str(connection.responder),
        around=connection.around,
        guessed=connection.guessed,
        start=iso_time(start),
        start_s=(start - (trace.start or 0)) / 1e9,
        duration_s=(connection.end - start) / 1e9,
        rtt_to_responder_ms=_ms(rtt.to_responder if rtt else None),
        rtt_to_initiator_ms=_ms(rtt.to_initiator if rtt else None),
        rtt_doubt=rtt.doubt if rtt else "",
        bytes_by_initiator=int(sent[0]),
        bytes_by_responder=int(sent[1]),
        segments_by_initiator=int(summary.segments[index, 0]),
        segments_by_responder=int(summary.segments[index, 1]),
        retransmissions_by_initiator=int(repeated[0]),
        retransmissions_by_responder=int(repeated[1]),
        copies=int((summary.forwarded[index] + summary.repeated[index]).sum()),
        oversized=int(summary.oversized[index].sum()),
        end=summary.ends[index].value,
    )


def _ms(time: int | None) -> float | None:
    return None if time is None else time / 1e6
