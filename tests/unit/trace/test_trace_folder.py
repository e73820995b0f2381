"""Any folder of captures, read by testbed and by tshark: they must see the same segments.

    TESTBED_CAPTURES=/path/to/captures pytest -n 2 tests/unit/trace/test_trace_folder.py

Skipped without a folder. Differences are printed; one frame in a thousand may differ, because the
two decide differently about headers that contradict each other.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from testbed.errors import TraceError
from testbed.trace import Trace, read_trace

FOLDER = os.environ.get("TESTBED_CAPTURES", "")
CAPTURES = sorted(
    path
    for path in (Path(FOLDER).rglob("*") if FOLDER else ())
    if path.is_file() and path.suffix in {".pcap", ".pcapng", ".cap", ".gz", ".zst", ".lz4"}
)
FIELDS = ("frame.number", "tcp.srcport", "tcp.dstport", "tcp.seq_raw", "tcp.ack_raw", "tcp.len")
SHOWN = 5

pytestmark = pytest.mark.skipif(not FOLDER, reason="TESTBED_CAPTURES names no folder")


def ours(trace: Trace) -> dict[str, list[str]]:
    return {
        str(one.number): [
            str(value)
            for value in (one.source.port, one.destination.port, one.seq, one.ack, one.length)
        ]
        for one in trace.segments
    }


def theirs(trace: Trace, tshark) -> dict[str, list[str]]:
    damaged = bool(trace.damage) or trace.truncated
    names = (*FIELDS, "tcp.stream")
    rows = tshark(trace.path, *names, filter="tcp and not icmp and not icmpv6", damaged=damaged)
    # Of tunnels in tunnels the innermost segment, and of segments cut off none.
    last = [[field.split(",")[-1] for field in row] for row in rows]
    return {row[0]: row[1:] for row in last if all(row[:6])}


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_tshark_sees_the_same(path, tshark):
    try:
        trace = read_trace(path)
    except TraceError as error:
        pytest.skip(str(error))
    mine, other = ours(trace), theirs(trace, tshark)
    last_read = trace.packets
    other = {number: row for number, row in other.items() if int(number) <= last_read}
    fields = {number: row[:5] for number, row in other.items()}
    different = [
        (number, mine.get(number), fields.get(number))
        for number in sorted({*mine, *fields}, key=int)
        if mine.get(number) != fields.get(number)
    ]
    report = "\n".join(f"frame {n}: testbed {a}, tshark {b}" for n, a, b in different[:SHOWN])
    assert len(different) <= len(fields) / 1000, f"{len(different)} frames differ:\n{report}"
    streams = {row[5] for row in other.values()}
    around = any(connection.around for connection in trace.connections)
    if not around:  # tshark does not keep tunnels and VLANs apart
        few = max(1, len(streams) / 100)
        assert abs(len(trace.connections) - len(streams)) <= few, "connections"
