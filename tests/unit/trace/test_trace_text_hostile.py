"""Text logs with numbers that no packet can have, and lines made to take long."""

from __future__ import annotations

import io
import time

import pytest

from testbed.trace import Trace, read_trace

GOOD = "10:00:00.0 A > B: . 1:1001(1000) ack 1 win 9000\n"
DIGITS = "9" * 5000


def read(lines: str) -> Trace:
    return read_trace(io.BytesIO(f"{GOOD}{lines}\n{GOOD}".encode()))


@pytest.mark.parametrize(
    "line",
    [
        f"10:00:00.1 A > B: . {DIGITS}:2(1000) ack 1 win 9000",
        f"10:00:00.1 A > B: . 1:2(1000) ack {DIGITS} win 9000",
        f"10:00:00.1 A > B: S 1:1(0) win 9000 <mss {DIGITS}>",
        f"10:00:00.1 A > B: . 1:1(0) ack 1 win 9000 <nop,sack 1 {{{DIGITS}:3}}>",
        f"10:00:00.1 A > B: . 1:2(1) ack 3 win 4 (optlen={DIGITS})",
        f"10:00:00.1 A > B: {DIGITS}:2 win 4096 datasz 9 ACK",
        "10:00:00.1 A > B: 1:2 win 4096 datasz 99999999999 ACK",
        "10:00:00.1 A > B: A 8cde:9292(ffffffffffff) ack: 1c2 win: 8000",
        "10:00:00.1 IP A > B: Flags [.], seq 1, ack 1, length 4294967290",
        "10:00:00.1 IP (ttl 300, id 7) A > B: Flags [.], seq 1, ack 1, length 3",
        "10:00:00.1 IP (ttl 64, id 70000) A > B: Flags [.], seq 1, ack 1, length 3",
        "10:00:00.1 A > B: (frag 1:2@99999999)",
        "10:00:00.1 A > B: (frag 1:99999999999@8+)",
        "9999999999.1 A > B: . 1:1001(1000) ack 1 win 9000",
        "9999-01-01 10:00:00.1 A > B: . 1:1001(1000) ack 1 win 9000",
    ],
)
def test_a_packet_that_there_cannot_be_is_skipped(line: str) -> None:
    trace = read(line)
    assert trace.capture.transcript is not None
    assert (trace.capture.transcript.skipped, len(trace.segments)) == (1, 2)


@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31"])
def test_days_before_the_epoch_are_read_as_its_first(day: str) -> None:
    trace = read(f"{day} 10:00:00.1 A > B: . 1:1001(1000) ack 1 win 9000")
    assert len(trace.segments) == 3


def test_bytes_may_be_in_groups_of_three_digits() -> None:
    assert len(read("10:00:00.1 A > B: . 1:1001(1000) ack 1 win 9000\n   450 028").segments) >= 2


@pytest.mark.parametrize("piece", ["options [", "<mss", "<sack {1:", "length 1", "(frag 1:", "1:"])
def test_the_time_for_a_line_grows_with_its_length(piece: str) -> None:
    began = time.process_time()
    for head in ("10:00:00.1 IP A > B: Flags [.], ", "10:00:00.1 A > B: . 1:2(1) ack 3 "):
        read(head + piece * 200_000)
    assert time.process_time() - began < 10  # minutes, where each piece was searched to the end
