"""Rows of a table as objects, and the other way: a table of segments that are objects already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from testbed.trace.segments import Flow, Segment
from testbed.trace.source import Buffer
from testbed.trace.table.segment_table import (
    DTYPES,
    NO_IDENTIFICATION,
    NO_WINDOW_SCALE,
    OptionBit,
    SegmentTable,
)
from testbed.wire.options import Options


def segments_of(table: SegmentTable, data: Buffer, outward: Flow, back: Flow) -> Iterator[Segment]:
    """The segments of one connection; `data` is what their positions are in."""
    return segments_in(table, data, (outward if one else back for one in table.outward.tolist()))


def segments_in(table: SegmentTable, data: Buffer, flows: Iterable[Flow]) -> Iterator[Segment]:
    """The segments of a table, with the flow of each."""
    names = "number", "time", "seq", "ack", "flags", "window", "length", "position"
    ends = table.position + table.header_length + table.captured - table.header_cut
    columns = [getattr(table, name).tolist() for name in names]
    more = (ends, table.interface, table.fragment, table.position - table.ip_distance)
    for number, time, seq, ack, flags, window, length, header, flow, end, *rest in zip(
        *columns, flows, *(column.tolist() for column in more), strict=True
    ):
        yield Segment(number, time, flow, seq, ack, flags, window, length, data, header, end, *rest)


def table_of(segments: Iterable[tuple[Segment, int, bool]]) -> SegmentTable:
    """The table of segments, each with its connection's number, and whether its initiator sent it.

    They are given in the order of the capture.
    """
    edges: list[tuple[int, int]] = []
    rows: list[dict[str, Any]] = []
    for segment, connection, outward in segments:
        options = segment.options
        own = {"connection": connection, "outward": outward, "sack_first": len(edges)}
        rows.append(own | header_columns(segment) | option_columns(options))
        edges += options.sack
    columns: dict[str, Any] = {
        name: np.array([row[name] for row in rows], dtype) for name, dtype in DTYPES.items()
    }
    return SegmentTable(**columns, sack_edges=np.array(edges, "u4").reshape(-1, 2))


def header_columns(segment: Segment) -> dict[str, int]:
    """The columns that are not about options or the connection."""
    identification = segment.ip_identification
    return {
        "number": segment.number,
        "time": segment.time,
        "seq": segment.seq,
        "ack": segment.ack,
        "flags": segment.flags,
        "window": segment.window,
        "length": segment.length,
        "captured": segment.captured,
        "ip_id": NO_IDENTIFICATION if identification is None else identification,
        "hops": segment.hops_left,
        "ecn": segment.ecn,
        "interface": segment.interface,
        "fragment": segment.fragment,
        "position": segment.position,
        "header_length": segment.header_length,
        "header_cut": segment.header_cut,
        "ip_distance": segment.position - segment.ip_position,
    }


def option_columns(options: Options) -> dict[str, int]:
    """The columns that are about options, but for `sack_first`."""
    value, echo = options.timestamps or (0, 0)
    scale = options.window_scale
    return {
        "options": option_bits(options),
        "mss": options.mss or 0,
        "window_scale": NO_WINDOW_SCALE if scale is None else scale,
        "ts_value": value,
        "ts_echo": echo,
        "sack_count": len(options.sack),
    }


def option_bits(options: Options) -> OptionBit:
    """Which options there are."""
    there = {
        OptionBit.MSS: options.mss is not None,
        OptionBit.WINDOW_SCALE: options.window_scale is not None,
        OptionBit.SACK_PERMITTED: options.sack_permitted,
        OptionBit.SACK: bool(options.sack),
        OptionBit.TIMESTAMPS: options.timestamps is not None,
        OptionBit.FAST_OPEN: options.fast_open is not None,
        OptionBit.UNKNOWN: bool(options.unknown),
        OptionBit.MALFORMED: options.malformed,
    }
    bits = OptionBit(0)
    for bit, is_there in there.items():
        if is_there:
            bits |= bit
    return bits
