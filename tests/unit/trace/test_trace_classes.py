"""What each segment is, why data was sent again, and whether that was needed."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.trace import Needless, RepeatReason, SegmentClass, SegmentMark, VantagePoint, analyse

SACK_OK = [("SAckOK", b"")]
NEW, AGAIN, FILLS = SegmentClass.NEW_DATA, SegmentClass.RETRANSMISSION, SegmentClass.FILLS_HOLE


def kinds(connection):
    analysis = connection.analysis
    return [analysis.kind(row) for row in range(len(connection.segments))]


def opened(talk, *, scale=None, rtt=100.0, at_client=True, **more):
    """A handshake with SACK; the client's own part of the round trip is short, or long."""
    t = talk(**more)
    options = [*SACK_OK, *([("WScale", scale)] if scale is not None else [])]
    there, back = (rtt, 0.1) if at_client else (0.1, rtt)
    t.client(0, "S", 0, options=options)
    t.server(there, "SA", 0, 1, options=options)
    t.client(there + back, "A", 1, 1)
    return t


def sack(t, side, *edges):
    return [("SAck", tuple((t.isns[side] + edge) % 2**32 for edge in edges))]


def flight(t, at, start, count, size=100):
    """So many segments of the client's, one right after the other."""
    for index in range(count):
        t.client(at + index * 0.1, "A", start + index * size, 1, size)


def test_fast_retransmission_by_sack(talk, only):
    t = opened(talk)
    flight(t, 200, 1, 5)
    for index in range(1, 4):
        edge = 101 + 100 * (index + 1)
        t.server(300 + index, "A", 1, 101, options=sack(t, True, 201, edge))
    t.client(303.1, "A", 101, 1, 100)
    connection = only(t)
    assert kinds(connection)[3:] == [
        *[NEW] * 5,
        SegmentClass.PURE_ACK,
        *[SegmentClass.DUPLICATE_ACK] * 2,
        AGAIN,
    ]
    (repeat,) = connection.analysis.repeats
    assert (repeat.reason, repeat.needless, repeat.timer) == (RepeatReason.FAST, Needless.NO, False)
    assert repeat.first == 4
    assert connection.analysis.vantage is VantagePoint.INITIATOR


def test_a_time_out_and_what_follows_it(talk, only):
    t = opened(talk)
    flight(t, 200, 1, 3)
    t.client(500, "A", 1, 1, 100)
    t.server(600, "A", 1, 101)
    t.client(600.1, "A", 101, 1, 100)
    t.client(600.2, "A", 201, 1, 100)
    repeats = only(t).analysis.repeats
    assert [one.reason for one in repeats] == [RepeatReason.TIMEOUT] * 3
    assert [one.timer for one in repeats] == [True, False, False]


def test_a_tail_loss_probe_repeats_the_last_segment_before_the_time_out(talk, only):
    t = opened(talk)
    flight(t, 200, 1, 3)
    t.client(402.3, "A", 201, 1, 100)
    (repeat,) = only(t).analysis.repeats
    assert (repeat.reason, repeat.timer) == (RepeatReason.TAIL_LOSS_PROBE, True)


def test_data_of_a_syn_that_was_not_taken_is_sent_at_once(talk, only):
    t = talk()
    t.client(0, "S", 0, 0, 50)
    t.server(100, "SA", 0, 1)
    t.client(100.1, "A", 1, 1, 50)
    (repeat,) = only(t).analysis.repeats
    assert repeat.reason is RepeatReason.REFUSED


def needless_by_dsack(t):
    t.server(520, "A", 1, 101, options=sack(t, True, 1, 101))


def needless_by_time_stamp(t):
    t.server(520, "A", 1, 101, stamps=(900, 200))


def needed(t):
    t.server(600, "A", 1, 101, stamps=(900, 500))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (needless_by_dsack, Needless.DSACK),
        (needless_by_time_stamp, Needless.TIME_STAMP),
        (needed, Needless.NO),
    ],
)
def test_what_the_answer_says_about_a_retransmission(talk, only, answer, expected):
    t = opened(talk)
    t.client(200, "A", 1, 1, 100, stamps=(200, 5))
    t.client(500, "A", 1, 1, 100, stamps=(500, 5))
    answer(t)
    (repeat,) = only(t).analysis.repeats
    assert repeat.needless is expected


def test_what_was_acknowledged_is_sent_again_without_need(talk, only):
    t = opened(talk)
    flight(t, 200, 1, 2)
    t.server(300, "A", 1, 201)
    t.client(301, "A", 1, 1, 100)
    assert only(t).analysis.repeats[0].needless is Needless.ACKNOWLEDGED


@pytest.mark.parametrize(("at", "kind"), [(203.0, SegmentClass.REORDERED), (310.0, FILLS)])
def test_unseen_data_is_reordered_or_fills_a_hole_by_its_time(talk, only, at, kind):
    t = opened(talk, at_client=False)
    t.client(200, "A", 1, 1, 100, identification=0)
    t.client(201, "A", 201, 1, 100, identification=0)
    t.client(at, "A", 101, 1, 100, identification=0)
    connection = only(t)
    assert kinds(connection)[-1] is kind
    assert connection.retransmissions() == ()
    assert connection.analysis.marked(SegmentMark.GAP).tolist() == [4]


@pytest.mark.parametrize(("number", "kind"), [(9, SegmentClass.REORDERED), (11, FILLS)])
def test_identifications_that_count_tell_the_order_of_sending(talk, only, number, kind):
    t = opened(talk, at_client=False)
    for index, start in enumerate((1, 101, 201, 401)):
        identification = (6, 7, 8, 10)[index]
        t.client(200 + index, "A", start, 1, 100, identification=identification)
    t.client(250, "A", 301, 1, 100, identification=number)
    assert kinds(only(t))[-1] is kind


def test_an_ack_of_data_never_seen_tells_that_the_capture_lost_it(talk, only):
    t = opened(talk)
    flight(t, 200, 1, 1)
    t.server(300, "A", 1, 301)
    t.client(300.1, "A", 301, 1, 100)
    t.client(520, "A", 101, 1, 100)
    connection = only(t)
    assert kinds(connection)[-1] is FILLS
    assert connection.analysis.marked(SegmentMark.UNSEEN_ACKED).tolist() == [4]
    assert connection.analysis.repeats[0].needless is Needless.ACKNOWLEDGED


def test_acks_that_only_change_the_window(talk, only):
    t = opened(talk)
    flight(t, 200, 1, 1)
    t.server(300, "A", 1, 101, window=100)
    t.server(301, "A", 1, 101, window=200)
    t.server(302, "A", 1, 101, window=200)
    t.server(303, "A", 1, 101, window=0)
    t.server(304, "A", 1, 1, window=100)
    assert kinds(only(t))[4:] == [
        SegmentClass.PURE_ACK,
        SegmentClass.WINDOW_UPDATE,
        SegmentClass.PURE_ACK,  # nothing is outstanding: RFC 5681 section 2 (a)
        SegmentClass.ZERO_WINDOW,
        SegmentClass.REORDERED,
    ]


def test_data_beyond_the_window_and_resets_of_others_are_out_of_it(talk, only):
    t = opened(talk, scale=0)
    t.server(150, "A", 1, 1, window=150)
    flight(t, 200, 1, 1)
    t.client(201, "A", 101, 1, 403)  # the SYN/ACK offered 502, and windows do not shrink
    t.server(202, "R", 1 << 29)
    t.server(203, "R", 1)
    connection = only(t)
    assert kinds(connection)[5:] == [
        SegmentClass.OUT_OF_WINDOW,
        SegmentClass.OUT_OF_WINDOW,
        SegmentClass.RESET,
    ]


def test_a_window_whose_scale_is_unknown_bounds_nothing(talk, only):
    t = talk()
    t.server(0, "A", 1, 1, window=1)
    flight(t, 10, 1, 5, size=1000)
    connection = only(t)
    assert kinds(connection)[1:] == [NEW] * 5
    assert connection.analysis.progress.window[0] == -1


def test_positions_run_past_the_end_of_sequence_numbers(talk, only):
    t = opened(talk, client_isn=2**32 - 150, server_isn=2**32 - 1)
    flight(t, 200, 1, 3)
    t.server(300, "A", 1, 301)
    progress = only(t).analysis.progress
    assert progress.position[3:6].tolist() == [1, 101, 201]
    assert progress.acknowledged[-1] == 301


@pytest.mark.parametrize("at_client", [True, False])
def test_the_vantage_point_is_estimated_or_given(talk, only, at_client):
    connection = only(opened(talk, at_client=at_client))
    expected = VantagePoint.INITIATOR if at_client else VantagePoint.RESPONDER
    assert connection.analysis.vantage is expected
    given = analyse(connection, vantage=VantagePoint.BETWEEN)
    assert given.vantage is VantagePoint.BETWEEN


def test_every_segment_has_one_class_and_counts_add_up(talk, only):
    t = opened(talk)
    flight(t, 200, 1, 3)
    analysis = only(t).analysis
    assert sum(sum(analysis.counts(side).values()) for side in (0, 1)) == len(analysis.table)
    assert np.array_equal(analysis.rows(), np.arange(len(analysis.table)))
