"""A trace as a table: one row per connection."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from testbed.trace import Connection, Trace


class ConnectionRow(msgspec.Struct, frozen=True):
    """One connection in plain numbers.

    start_s: since the first packet of the capture; duration_s: first to last segment.
    rtt_*_ms: from SYN to SYN/ACK, and from SYN/ACK to ACK, as seen where the capture was taken;
    None when one of the three is missing.
    bytes_*: payload, each byte once. guessed: the initiator is inferred, its SYN is missing.
    """

    number: int
    initiator: str
    responder: str
    guessed: bool
    start_s: float
    duration_s: float
    rtt_to_responder_ms: float | None
    rtt_to_initiator_ms: float | None
    bytes_by_initiator: int
    bytes_by_responder: int
    segments_by_initiator: int
    segments_by_responder: int
    retransmissions_by_initiator: int
    retransmissions_by_responder: int
    oversized: int
    end: str


class TraceTable:
    """What `trace_table` returns: print it with rich, or take `rows` or `data()` of it."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.rows = tuple(_row(trace, connection) for connection in trace.connections)

    def data(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        trace = self.trace
        return {
            "file": str(trace.path),
            "format": trace.capture.format,
            "packets": trace.packets,
            "segments": len(trace.segments),
            "other": trace.other,
            "malformed": trace.malformed,
            "truncated": trace.truncated,
            "connections": [msgspec.to_builtins(row) for row in self.rows],
        }

    def remarks(self) -> list[str]:
        """What the reader must know about the capture before trusting the table."""
        trace = self.trace
        remarks = []
        if trace.other:
            remarks.append(f"{trace.other} packets are not TCP.")
        if trace.malformed:
            remarks.append(f"{trace.malformed} packets are malformed or cut in their headers.")
        if trace.truncated:
            remarks.append("The file stops in the middle of its last packet.")
        if any(row.guessed for row in self.rows):
            remarks.append("* The SYN is not in the capture: who opened is a guess.")
        if any(row.oversized for row in self.rows):
            remarks.append(
                "Some segments exceed the MSS: segmentation offload was on where this was captured."
            )
        return remarks

    def __rich__(self) -> Group:
        table = Table(title=Text(str(self.trace.path)), title_justify="left")
        for heading, right in _COLUMNS:
            table.add_column(heading, justify="right" if right else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*_cells(row))
        return Group(table, *(Text(remark) for remark in self.remarks()))


def trace_table(trace: Trace) -> TraceTable:
    """One row per connection of the trace."""
    return TraceTable(trace)


_COLUMNS = (
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


def _cells(row: ConnectionRow) -> tuple[Text, ...]:
    rtt = "-"
    if row.rtt_to_responder_ms is not None and row.rtt_to_initiator_ms is not None:
        total = row.rtt_to_responder_ms + row.rtt_to_initiator_ms
        decimals = 1 if total >= 10 else 3
        rtt = f"{row.rtt_to_responder_ms:.{decimals}f} + {row.rtt_to_initiator_ms:.{decimals}f} ms"
    sent_again = row.retransmissions_by_initiator, row.retransmissions_by_responder
    values = (
        str(row.number),
        row.initiator + ("*" if row.guessed else ""),
        row.responder,
        f"{row.start_s:.3f} s",
        f"{row.duration_s:.3f} s",
        rtt,
        f"{row.bytes_by_initiator:,}",
        f"{row.bytes_by_responder:,}",
        f"{row.segments_by_initiator} + {row.segments_by_responder}",
        f"{sent_again[0]} + {sent_again[1]}",
        row.end,
    )
    cells = [Text(value) for value in values]
    if any(sent_again):
        cells[9].stylize("bold yellow")
    if row.end == "RST":
        cells[10].stylize("magenta")
    return tuple(cells)


def _row(trace: Trace, connection: Connection) -> ConnectionRow:
    one, other = connection.by_initiator, connection.by_responder
    rtt = connection.handshake_rtt
    return ConnectionRow(
        number=connection.number,
        initiator=str(connection.initiator),
        responder=str(connection.responder),
        guessed=connection.guessed,
        start_s=(connection.start - (trace.start or 0)) / 1e9,
        duration_s=(connection.end - connection.start) / 1e9,
        rtt_to_responder_ms=rtt.to_responder / 1e6 if rtt else None,
        rtt_to_initiator_ms=rtt.to_initiator / 1e6 if rtt else None,
        bytes_by_initiator=one.unique_bytes,
        bytes_by_responder=other.unique_bytes,
        segments_by_initiator=len(one.segments),
        segments_by_responder=len(other.segments),
        retransmissions_by_initiator=len(one.retransmissions),
        retransmissions_by_responder=len(other.retransmissions),
        oversized=len(one.oversized) + len(other.oversized),
        end=connection.ended.value,
    )
