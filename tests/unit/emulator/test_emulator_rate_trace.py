"""Rates that follow a trace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import InvalidValue
from testbed.topology.model import Impairments, Queue, QueueLimit, RateTrace
from testbed.topology.values.rate_trace import MOST_LINES, parse_rate_trace

MS = 1_000_000
FULL = bytes(1514)


def traced(line, *moments: int, **more):
    return line(Impairments(rate_trace=RateTrace(moments), **more))


def times(busy) -> list[float]:
    return [time / MS for time, _ in busy.arrivals(10_000 * MS)]


def test_one_full_frame_passes_at_each_line(line):
    busy = traced(line, 1, 4, 4, 10)
    for _ in range(4):
        busy.send(FULL, 0)
    assert times(busy) == [1, 4, 4, 10]


def test_the_trace_repeats_after_its_last_line(line):
    busy = traced(line, 1, 4, 10)
    for _ in range(8):
        busy.send(FULL, 0)
    assert times(busy) == [1, 4, 10, 11, 14, 20, 21, 24]


def test_small_frames_share_a_line_if_they_wait_for_it(line):
    busy = traced(line, 5, 10)
    for _ in range(4):
        busy.send(bytes(700), 0)
    assert times(busy) == [5, 5, 10, 10]


def test_what_nobody_waits_for_is_lost(line):
    busy = traced(line, 5, 10, 15)
    busy.send(bytes(100), 0)
    busy.send(bytes(100), 6 * MS)
    busy.send(FULL, 6 * MS)
    assert times(busy) == [5, 10, 15]


def test_a_frame_longer_than_a_line_takes_several(line):
    busy = traced(line, 5, 10, 15, 20)
    busy.send(bytes(4000), 0)
    busy.send(bytes(500), 0)
    assert times(busy) == [15, 15]


def test_an_opportunity_is_not_used_twice(line):
    busy = traced(line, 5, 10)
    busy.send(FULL, 0)
    busy.send(FULL, 5 * MS)
    assert times(busy) == [5, 10]


def test_a_long_idle_time_skips_the_lines_in_between(line):
    busy = traced(line, 3, 7, 10)
    busy.send(FULL, 1_000_004 * MS)
    assert busy.arrivals()[0][0] == 1_000_007 * MS


def test_the_trace_starts_when_it_is_set(line):
    busy = line(Impairments())
    busy.set(Impairments(rate_trace=RateTrace((5, 10))), 1_000 * MS)
    busy.send(FULL, 1_001 * MS)
    assert times(busy) == [1_005]


def test_the_queue_limit_holds_before_a_trace_too(line):
    queue = Queue(limit=QueueLimit(2, "packets"))
    busy = traced(line, 5, 10, queue=queue, delay=0.001)
    for _ in range(10):
        busy.send(FULL, 0)
    assert times(busy) == [6, 11, 16]
    assert busy.dropped("queue") == 7


def test_a_limit_in_seconds_takes_the_mean_rate(line):
    """One frame a millisecond on the average: 4 ms of queue are 4 frames, beside the one sent."""
    queue = Queue(limit=QueueLimit(0.004, "seconds"))
    busy = traced(line, 5, 5, 5, 5, 10, 10, 10, 10, 10, 10, queue=queue)
    for _ in range(10):
        busy.send(FULL, 0)
    assert len(times(busy)) == 5


@pytest.mark.parametrize("moments", [(), (0,), (5, 4), (-1, 5)])
def test_impossible_traces_are_refused(line, moments):
    with pytest.raises(ValueError, match="a trace needs"):
        traced(line, *moments)


def test_overhead_takes_time_and_leaves_the_frame(line):
    busy = line(Impairments(rate=8e6, overhead=24))
    busy.send(bytes(976), 0)
    busy.send(bytes(976), 0)
    assert busy.arrivals() == [(MS, bytes(976)), (2 * MS, bytes(976))]


def test_a_trace_is_read_from_mahimahis_format():
    assert parse_rate_trace("0\n3\n3\n10\n", "lte").opportunities == (0, 3, 3, 10)
    assert parse_rate_trace("# LTE\n\n 5 \r\n7", "lte").opportunities == (5, 7)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lte has no line later than 0 ms"),
        ("0\n0\n", "no line later"),
        ("5\nfast\n", "lte:2: expected a whole number of milliseconds, got 'fast'"),
        ("5\n4\n", "lte:2: 4 ms is earlier than the line before, 5 ms"),
        ("-5\n", "lte:1"),
        ("1.5\n", "lte:1"),
        ("٣\n", "lte:1"),
        ("9" * 5000, "lte:1"),
        ("1\n" * (MOST_LINES + 1), "is the most"),
    ],
)
def test_a_bad_trace_is_told_by_its_line(text, says):
    with pytest.raises(InvalidValue, match=says):
        parse_rate_trace(text, "lte")


@given(st.text(max_size=200))
def test_no_text_is_too_odd_for_a_trace(text):
    try:
        trace = parse_rate_trace(text, "odd")
    except InvalidValue:
        return
    assert list(trace.opportunities) == sorted(trace.opportunities)
    assert trace.opportunities[-1] > 0


def test_another_overhead_does_not_begin_the_trace_anew(line):
    busy = traced(line, 1, 1, 1, 1, 1000)
    busy.set(Impairments(rate_trace=RateTrace((1, 1, 1, 1, 1000)), overhead=600), 500 * MS)
    busy.send(bytes(1000), 500 * MS)
    # 1600 bytes take two lines: the last one, and the first of the repetition.
    assert times(busy) == [1001]
