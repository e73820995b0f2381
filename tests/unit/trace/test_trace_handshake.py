"""Which segments make a handshake, and which round trips they show."""

from __future__ import annotations

import pytest

KARN = "2 SYNs were sent, and nothing tells which one was answered"


def rtt(connection) -> tuple[float | None, float | None, str]:
    """ms."""
    found = connection.handshake_rtt
    parts = (found.to_responder, found.to_initiator)
    return *(None if one is None else one / 1e6 for one in parts), found.doubt


def test_repeats_on_both_sides_with_time_stamps(talk, only):
    t = talk()
    t.client(0, "S", 0, stamps=(100, 0))
    t.client(1000, "S", 0, stamps=(1100, 0))
    t.server(1000.04, "SA", 0, 1, stamps=(7, 1100))
    t.server(1213, "SA", 0, 1, stamps=(220, 1100))
    t.client(1213.5, "A", 1, 1, stamps=(1313, 220))
    assert rtt(only(t)) == (pytest.approx(0.04), pytest.approx(0.5), "")


def test_the_first_syn_can_be_the_one_that_was_answered(talk, only):
    t = talk()
    t.client(0, "S", 0, stamps=(100, 0))
    t.client(1000, "S", 0, stamps=(1100, 0))
    t.server(1010, "SA", 0, 1, stamps=(7, 100))
    t.client(1011, "A", 1, 1, stamps=(1111, 7))
    connection = only(t)
    assert rtt(connection) == (1010, 1, "")
    assert connection.handshake.syn.number == 1


def test_the_ack_of_the_first_of_two_syn_acks(talk, only):
    t = talk()
    t.client(0, "S", 0, stamps=(100, 0))
    t.server(10, "SA", 0, 1, stamps=(7, 100))
    t.server(1010, "SA", 0, 1, stamps=(1007, 100))
    t.client(1012, "A", 1, 1, stamps=(1112, 7))
    assert rtt(only(t)) == (10, 1002, "")


def test_without_time_stamps_karns_question_has_no_answer(talk, only):
    t = talk()
    t.client(0, "S", 0)
    t.client(1000, "S", 0)
    t.server(1010, "SA", 0, 1)
    t.server(1020, "SA", 0, 1)
    t.client(1021, "A", 1, 1)
    connection = only(t)
    assert rtt(connection) == (None, 1, KARN)
    assert connection.handshake_rtt.total is None


def test_a_syn_repeated_after_its_answer_changes_nothing(talk, only):
    t = talk()
    t.client(0, "S", 0)
    t.server(10, "SA", 0, 1)
    t.client(1000, "S", 0)
    t.client(1001, "A", 1, 1)
    assert rtt(only(t)) == (10, 991, "")


def test_the_ack_acknowledges_the_syn_ack_and_nothing_else(talk, only):
    t = talk()
    t.client(0, "S", 0)
    t.server(10, "SA", 0, 1)
    t.client(11, "A", 1, -5)
    t.client(12, "A", 1, 1)
    assert only(t).handshake.ack.number == 4


@pytest.mark.parametrize(("flags", "seq", "size"), [("FA", 1, 0), ("FA", 501, 0), ("PA", 501, 9)])
def test_what_comes_after_other_data_is_not_the_ack(talk, only, flags, seq, size):
    """Captures that hold control packets only, or lost the ACK: not "8,225 ms"."""
    t = talk()
    t.client(0, "S", 0)
    t.server(10, "SA", 0, 1)
    t.client(8225, flags, seq, 1, size)
    t.client(8300, "A", 1, 1)
    assert only(t).handshake_rtt is None


def test_data_may_ride_on_the_ack(talk, only):
    t = talk()
    t.client(0, "S", 0)
    t.server(10, "SA", 0, 1)
    t.client(11, "PA", 1, 1, 100)
    assert rtt(only(t)) == (10, 1, "")


def test_time_that_goes_back_gives_no_negative_figure(talk, read, pcap):
    t = talk()
    t.client(1000, "S", 0)
    t.server(1010, "SA", 0, 1)
    t.client(500, "A", 1, 1)
    t.server(100, "PA", 1, 1, 10)
    trace = read(pcap(t.packets))
    (connection,) = trace.connections
    assert trace.back_in_time == 3
    assert rtt(connection) == (10, None, "time goes back in the capture")
    assert trace.start == connection.start == t.packets[3][0]
    assert trace.end == connection.end == t.packets[1][0]


def test_a_capture_in_order_never_went_back(talk, read):
    t = talk()
    t.handshake()
    assert read(t).back_in_time is None


def test_packets_taken_in_by_two_processors_are_no_step_of_a_clock(talk, read, pcap):
    t = talk()
    t.client(1, "S", 0)
    t.client(1.9, "PA", 1, 1, 10)
    t.client(1.5, "PA", 11, 1, 10)
    t.client(0.95, "PA", 21, 1, 10)
    trace = read(pcap(t.packets))
    assert (trace.back_in_time, trace.connections[0].ordered) == (None, False)
    assert trace.connections[0].start == trace.start == t.packets[3][0]
    assert trace.connections[0].end == t.packets[1][0]
