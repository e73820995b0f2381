"""Damaged captures end in a trace or in a TraceError, all the way to the drawing."""

from __future__ import annotations

import json
import re
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from io import StringIO

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from testbed.errors import TraceError
from testbed.report import ladder_from_files
from testbed.report.ladder_svg import draw_svg
from testbed.report.ladder_terminal import beside, draw
from testbed.report.tables import trace_table
from testbed.trace import read_trace

flips = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=12)


def _as_pcapng(
    pcap: bytes, *, resolution: int = 9, offset: int = 0, ticks_of: Callable[[int], int] = int
) -> bytes:
    """The packets of a nanosecond pcap as pcapng; ticks_of: from ns to what is written."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        length = struct.pack("<I", len(body) + 12)
        return struct.pack("<I", kind) + length + body + length

    parts = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))]
    options = struct.pack("<HHB3xHHqHH", 9, 1, resolution, 14, 8, offset, 0, 0)
    parts.append(block(1, struct.pack("<HHI", 1, 0, 0) + options))
    at = 24
    while at < len(pcap):
        seconds, fraction, captured, wire = struct.unpack_from("<IIII", pcap, at)
        ticks = ticks_of(seconds * 10**9 + fraction)
        header = struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, captured, wire)
        parts.append(block(6, header + pcap[at + 16 : at + 16 + captured]))
        at += 16 + captured
    return b"".join(parts)


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
@settings(
    max_examples=150, deadline=20_000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(flips=flips, cut=st.integers(0, 200), headers_only=st.booleans())
def test_flipped_bytes_never_end_in_anything_else(faulty, tmp_path, form, flips, cut, headers_only):
    near, far = faulty
    good = near.read_bytes()
    data = bytearray(good if form == "pcap" else _as_pcapng(good))
    for at, value in flips:
        data[at % (300 if headers_only else len(data))] = value
    broken = tmp_path / "broken"
    broken.write_bytes(bytes(data[: len(data) - cut]))
    try:
        trace = read_trace(broken)
        _use_everything(trace)
        for files in ([broken], [broken, far], [far, broken]):
            ladder = ladder_from_files(files, limit=50)
            assert str(draw(ladder)) and str(beside(ladder, ladder, 160, ascii_only=True))
            ElementTree.fromstring(draw_svg(ladder))
    except TraceError as error:
        assert str(broken) in str(error)


signed = st.integers(-(2**63), 2**63 - 1)


@settings(
    max_examples=150, deadline=20_000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    resolution=st.integers(0, 255), offset=st.just(0) | signed,
    ticks=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4), damaged=st.booleans(),
)  # fmt: skip
@example(resolution=0, offset=0, ticks=[2**63, 0, 2**64 - 1], damaged=False)
@example(resolution=0, offset=2**63 - 1, ticks=[2**64 - 1], damaged=False)
@example(resolution=9, offset=-(10**12), ticks=[], damaged=False)
@example(resolution=9, offset=-(2**63), ticks=[2**64 - 1], damaged=True)
def test_any_time_is_read_and_told(faulty, tmp_path, resolution, offset, ticks, damaged):
    """ticks: of the first packets; those of the others are sound where the file is damaged."""
    near, far = faulty
    given = iter(ticks)
    last = ticks[-1] if ticks and not damaged else None
    content = _as_pcapng(
        near.read_bytes(),
        resolution=resolution,
        offset=offset,
        ticks_of=lambda ns: next(given, ns if last is None else last),
    )
    odd = tmp_path / "odd.pcapng"
    odd.write_bytes(content)
    trace, sound = read_trace(odd), read_trace(near)
    assert (trace.packets, len(trace.segments)) == (sound.packets, len(sound.segments))
    _use_everything(trace)
    table = trace_table(trace)
    data = table.data()
    years = [int(re.match(r"[+-]?\d{4,}", data[end])[0]) for end in ("start", "end")]
    told = any("between the years 1970 and 9999" in remark for remark in table.remarks())
    assert told == any(not 1970 <= year <= 9999 for year in years)
    assert json.dumps(data)
    for width in (80, 200):
        Console(file=StringIO(), width=width).print(table)
    for files in ([odd], [odd, far], [far, odd]):
        ladder = ladder_from_files(files, limit=50)
        assert msgspec.json.encode(ladder) and str(draw(ladder))
        ElementTree.fromstring(draw_svg(ladder))


def _use_everything(trace) -> None:
    trace_table(trace).data()
    for connection in trace.connections:
        rtt = connection.handshake_rtt
        assert rtt is None or rtt.doubt or rtt.total is not None
        assert connection.by_responder.unique_bytes <= connection.by_responder.payload_bytes
    for segment in trace.segments:
        assert repr(segment) and segment.options is not None
        assert len(segment.payload) == segment.captured <= segment.length


def test_the_undamaged_files_are_read_alike(faulty, tmp_path):
    near, _ = faulty
    other = tmp_path / "same.pcapng"
    other.write_bytes(_as_pcapng(near.read_bytes()))
    one, two = (read_trace(path) for path in (near, other))
    assert [(s.time, s.seq, s.payload) for s in one.segments] == [
        (s.time, s.seq, s.payload) for s in two.segments
    ]
