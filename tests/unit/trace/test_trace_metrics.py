"""Round trips, flight, windows, goodput and the retransmission timer over time."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.trace.analysis.metrics import (
    TimeSeries,
    bytes_in_flight,
    estimated_rto,
    goodput,
    least_congestion_window,
    receive_window,
    rtt_by_sequence,
    rtt_by_time_stamps,
    timeouts,
)

MS = 1_000_000


@pytest.fixture
def talked(talk, only):
    """Three segments, of which the second is sent again after 300 ms."""
    t = talk()
    scale = [("WScale", 1)]
    t.client(0, "S", 0, stamps=(1, 0), options=scale)
    t.server(100, "SA", 0, 1, stamps=(900, 1), options=scale)
    t.client(101, "A", 1, 1, stamps=(101, 900))
    t.client(200, "A", 1, 1, 100, stamps=(200, 900))
    t.server(320, "A", 1, 101, stamps=(1120, 200))
    t.client(400, "A", 101, 1, 100, stamps=(400, 1120))
    t.client(401, "A", 201, 1, 100, stamps=(401, 1120))
    t.client(700, "A", 101, 1, 100, stamps=(700, 1120))
    t.server(800, "A", 1, 301, stamps=(1600, 700))
    return only(t).analysis


def test_round_trips_by_sequence_leave_out_what_was_sent_again(talked):
    found = rtt_by_sequence(talked, 0)
    assert found.value.tolist() == [100 * MS, 120 * MS]


def test_round_trips_by_time_stamps_know_which_one_was_answered(talked):
    assert rtt_by_time_stamps(talked, 0).value.tolist() == [100 * MS, 120 * MS, 100 * MS]


def test_flight_and_the_least_congestion_window(talked):
    assert bytes_in_flight(talked, 0).value.tolist() == [0, 1, 0, 100, 0, 100, 200, 0][1:]
    assert least_congestion_window(talked, 0).value.max() == 200


def test_windows_are_scaled_and_unknown_without_the_scale(talked, talk, only):
    window = receive_window(talked, 1)
    assert window is not None and window.value.tolist() == [502, 1004, 1004]
    t = talk()
    t.server(0, "A", 1, 1)
    assert receive_window(only(t).analysis, 1) is None


def test_goodput_adds_up_to_what_was_acknowledged(talked):
    found = goodput(talked, 0, intervals=8)
    assert float((found.value * 0.1 / 8).sum()) == pytest.approx(300)


def test_the_timer_by_rfc_6298_and_as_observed(talked):
    estimate = estimated_rto(talked, 0, least=1)
    assert estimate.smoothed.value.tolist() == [100 * MS, 102.5 * MS]
    assert estimate.variation.value.tolist() == [50 * MS, 42.5 * MS]
    assert estimate.rto.value.tolist() == [300 * MS, 272.5 * MS]
    (one,) = timeouts(talked, 0, least=1)
    assert (one.waited, one.expected, one.backoff) == (300 * MS, round(272.5 * MS), 0)


def test_a_second_time_out_is_expected_after_twice_the_time(talk, only):
    t = talk()
    t.handshake(rtt=100)
    t.client(200, "A", 1, 1, 100)
    for at in (500, 1100, 2300):
        t.client(at, "A", 1, 1, 100)
    found = timeouts(only(t).analysis, 0, least=1)
    assert [one.backoff for one in found] == [0, 1, 2]
    assert [one.waited // MS for one in found] == [300, 600, 1200]
    assert found[1].expected == 2 * found[0].expected


def test_a_thinned_series_keeps_its_largest_values():
    series = TimeSeries(np.arange(1000), np.arange(1000) % 100)
    thinned = series.thinned(20)
    assert (len(thinned), int(thinned.value.max())) == (20, 99)
