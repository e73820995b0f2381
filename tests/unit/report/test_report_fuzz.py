"""Damaged captures end in a trace or in a TraceError, all the way to the drawing."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.errors import TraceError
from testbed.report import ladder_from_files
from testbed.report.ladder_svg import draw_svg
from testbed.report.ladder_terminal import beside, draw
from testbed.report.tables import trace_table
from testbed.trace import read_trace

flips = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=12)


def _as_pcapng(pcap: bytes) -> bytes:
    """The packets of a nanosecond pcap as pcapng."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        length = struct.pack("<I", len(body) + 12)
        return struct.pack("<I", kind) + length + body + length

    parts = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))]
    parts.append(block(1, struct.pack("<HHIHHB3xHH", 1, 0, 0, 9, 1, 9, 0, 0)))
    at = 24
    while at < len(pcap):
        seconds, fraction, captured, wire = struct.unpack_from("<IIII", pcap, at)
        ticks = seconds * 10**9 + fraction
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
