"""A trace as a table."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from testbed.report.tables import iso_time, trace_table
from testbed.trace import read_trace


def test_a_row_holds_the_numbers_of_its_connection(faulty):
    (row,) = trace_table(read_trace(faulty[0])).rows
    assert (row.number, row.initiator, row.responder) == (1, "10.0.0.1:40000", "10.0.1.1:80")
    assert (round(row.start_s, 6), round(row.duration_s, 6)) == (0.0, 1.2424)
    assert (round(row.rtt_to_responder_ms, 3), round(row.rtt_to_initiator_ms, 3)) == (20.1, 0.1)
    assert (row.bytes_by_initiator, row.bytes_by_responder) == (512, 1024)
    assert (row.segments_by_initiator, row.segments_by_responder) == (4, 3)
    assert (row.retransmissions_by_initiator, row.retransmissions_by_responder) == (1, 0)
    assert (row.end, row.guessed, row.oversized) == ("open", False, 0)


def test_the_same_as_plain_data(faulty):
    data = json.loads(json.dumps(trace_table(read_trace(faulty[0])).data()))
    assert (data["file"], data["format"], data["packets"]) == (str(faulty[0]), "pcap", 7)
    assert data["connections"][0]["retransmissions_by_initiator"] == 1


def _printed(path) -> str:
    out = StringIO()
    Console(file=out, width=140).print(trace_table(read_trace(path)))
    return out.getvalue()


def test_the_same_for_people(faulty):
    text = _printed(faulty[0])
    for expected in ("10.0.0.1:40000", "20.1 + 0.1 ms", "1,024", "1 + 0", "open"):
        assert expected in text
    assert "*" not in text


def test_remarks_warn_of_what_the_capture_lacks(recording, tmp_path):
    capture = recording("late.pcap")
    capture.server(0, "PA", 1, 1, b"x")
    capture.client(1, "A", 1, 2)
    data = capture.write().read_bytes()
    broken = tmp_path / "broken[red].pcap"
    broken.write_bytes(data[:-3])
    text = _printed(broken)
    assert "10.0.0.1:40000*" in text and "who opened is a guess" in text
    assert "stops in the middle of its last packet" in text
    assert "broken[red].pcap" in text


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "1970-01-01T00:00:00"),
        (-1, "1969-12-31T23:59:59"),
        (253_402_300_799, "9999-12-31T23:59:59"),
        (253_402_300_800, "+10000-01-01T00:00:00"),
        (-62_167_219_200, "0000-01-01T00:00:00"),
        (-62_167_219_201, "-0001-12-31T23:59:59"),
        (1 << 40, "+36812-02-20T00:36:16"),
    ],
)
def test_every_time_has_a_date(seconds, told):
    assert iso_time(seconds * 10**9 + 5) == f"{told}.000000005Z"
