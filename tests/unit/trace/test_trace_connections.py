"""Grouping, handshakes, retransmissions and endings."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.trace.connections import End
from testbed.trace.ranges import Ranges, Unwrapper
from testbed.wire.sequence import difference


def numbers(segments):
    return [segment.number for segment in segments]


def test_a_plain_connection(talk, only):
    t = talk()
    t.handshake(rtt=10)
    t.client(20, "PA", 1, 1, 100)
    t.server(30, "PA", 1, 101, 300)
    t.client(40, "FA", 101, 301)
    t.server(50, "FA", 301, 102)
    t.client(60, "A", 102, 302)
    connection = only(t)
    assert (str(connection.initiator), str(connection.responder)) == (
        "10.0.0.1:40000",
        "10.0.1.1:80",
    )
    assert not connection.guessed
    assert connection.handshake_rtt is not None
    assert connection.handshake_rtt.to_responder == 10_000_000
    assert connection.handshake_rtt.to_initiator == 1_000_000
    assert connection.handshake_rtt.total == 11_000_000
    assert (connection.by_initiator.isn, connection.by_responder.isn) == (1000, 9000)
    assert (connection.by_initiator.payload_bytes, connection.by_responder.payload_bytes) == (
        100,
        300,
    )
    assert connection.ended is End.FIN
    assert connection.retransmissions() == ()
    relative = [
        (connection.relative_seq(s), connection.relative_ack(s)) for s in connection.segments
    ]
    assert relative == [
        (0, None), (0, 1), (1, 1), (1, 1), (1, 101), (101, 301), (301, 102), (102, 302)
    ]  # fmt: skip


def test_the_syn_decides_who_opened_whatever_the_ports(talk, only):
    t = talk(client=("10.0.0.1", 80), server=("10.0.1.1", 40000))
    t.handshake()
    assert only(t).initiator.port == 80


def test_without_a_syn_the_initiator_is_a_flagged_guess(talk, only):
    t = talk()
    t.server(0, "PA", 1, 1, 10)
    t.client(1, "A", 1, 11)
    connection = only(t)
    assert (connection.guessed, connection.initiator.port) == (True, 40000)
    assert connection.handshake_rtt is None
    assert [connection.relative_seq(s) for s in connection.segments] == [1, 1]
    assert [connection.relative_ack(s) for s in connection.segments] == [1, 11]


def test_a_syn_ack_alone_tells_who_opened(talk, only):
    t = talk(client=("10.0.0.1", 80), server=("10.0.1.1", 40000))
    t.server(0, "SA", 0, 1)
    t.client(1, "A", 1, 1)
    assert (only(t).initiator.port, only(t).guessed) == (80, True)


def test_a_repeated_syn_or_syn_ack_is_a_retransmission(talk, only):
    t = talk()
    t.client(0, "S", 0)
    t.client(1000, "S", 0)
    t.server(1010, "SA", 0, 1)
    t.server(1020, "SA", 0, 1)
    t.client(1021, "A", 1, 1)
    assert numbers(only(t).retransmissions()) == [2, 4]


def test_a_simultaneous_open_is_one_connection(talk, only):
    t = talk()
    t.client(0, "S", 0)
    t.server(1, "S", 0)
    t.client(2, "SA", 0, 1)
    t.server(3, "SA", 0, 1)
    t.client(4, "A", 1, 1)
    connection = only(t)
    assert (connection.initiator.port, connection.guessed) == (40000, False)
    assert len(connection.segments) == 5


def test_endpoints_used_again_make_a_new_connection(talk, read):
    first, second = talk(), talk(client_isn=5_000_000, server_isn=6_000_000)
    first.handshake(0)
    first.client(20, "FA", 1, 1)
    first.server(30, "FA", 1, 2)
    first.client(31, "A", 2, 2)
    second.handshake(100)
    second.client(120, "R", 1)
    trace = read(first.packets + second.packets)
    assert [len(c.segments) for c in trace.connections] == [6, 4]
    assert [c.number for c in trace.connections] == [1, 2]
    assert [c.ended for c in trace.connections] == [End.FIN, End.RST]
    assert [c.by_initiator.isn for c in trace.connections] == [1000, 5_000_000]


def test_a_syn_after_leftovers_of_an_older_connection_begins_a_new_one(talk, read):
    leftovers, t = talk(client_isn=77), talk()
    leftovers.server(0, "FA", 1, 1)
    leftovers.client(1, "A", 1, 2)
    t.handshake(50)
    trace = read(leftovers.packets + t.packets)
    assert [(len(c.segments), c.guessed) for c in trace.connections] == [(2, True), (3, False)]


def test_a_second_syn_ack_with_another_isn_stays_in_the_connection(talk, only):
    t = talk()
    t.client(0, "S", 0)
    t.server(5, "SA", 0, 1)
    t.isns[False] += 4444  # a SYN cookie made anew
    t.server(1005, "SA", 0, 1)
    t.client(1006, "A", 1, 1)
    assert len(only(t).segments) == 4


def test_a_syn_ack_of_the_next_connection_begins_it_when_its_syn_is_missing(talk, read):
    first, second = talk(), talk(client_isn=500_000, server_isn=900_000)
    first.handshake(0)
    first.client(20, "R", 1)
    second.server(110, "SA", 0, 1)
    second.client(111, "A", 1, 1)
    trace = read(first.packets + second.packets)
    assert [(len(c.segments), c.guessed) for c in trace.connections] == [(4, False), (2, True)]


def test_two_connections_at_once_do_not_mix(talk, read):
    one, other = talk(), talk(client=("10.0.0.1", 40001))
    one.handshake()
    other.handshake(0.5)
    trace = read(one.packets + other.packets)
    assert [len(c.segments) for c in trace.connections] == [3, 3]


@pytest.mark.parametrize(
    ("last", "expected"),
    [([], End.OPEN), (["FA"], End.HALF_CLOSED), (["RA"], End.RST), (["FA", "RA"], End.RST)],
)
def test_how_it_ended(talk, only, last, expected):
    t = talk()
    t.handshake()
    for number, flags in enumerate(last):
        t.client(100 + number, flags, 1 + number, 1)
    assert only(t).ended is expected


def test_a_reset_after_both_fins_changes_nothing(talk, only):
    t = talk()
    t.handshake()
    t.client(20, "FA", 1, 1)
    t.server(21, "FA", 1, 2)
    t.client(22, "R", 2)
    assert only(t).ended is End.FIN


def test_a_reset_in_a_connection_that_goes_on_is_no_end(talk, only):
    t = talk()
    t.handshake()
    t.server(20, "R", 1 << 30)  # out of the window
    t.client(30, "PA", 1, 1, 10)
    t.server(40, "FA", 1, 11)
    assert only(t).ended is End.HALF_CLOSED
    t.client(50, "FA", 11, 2)
    assert only(t).ended is End.FIN


def test_a_reset_after_which_one_side_sends_nothing_is_an_end(talk, only):
    t = talk()
    t.handshake()
    t.client(20, "PA", 1, 1, 10)
    t.server(30, "R", 1)
    t.client(31, "PA", 11, 1, 10)  # was on its way
    assert only(t).ended is End.RST


def test_a_stray_syn_does_not_cut_a_connection_in_two(talk, only):
    t = talk()
    t.handshake()
    t.client(20, "S", 8_000_000)
    t.server(30, "A", 1, 1)  # the challenge ACK
    t.client(40, "PA", 1, 1, 10)
    t.server(50, "A", 1, 11)
    connection = only(t)
    assert len(connection.segments) == 7
    assert [connection.relative_seq(s) for s in connection.segments[4:]] == [1, 1, 1]


def test_challenge_ack_and_reset_belong_to_the_connection_they_are_about(talk, read):
    old, new = talk(), talk(client_isn=3_000_000_000, server_isn=5)
    old.handshake()
    new.client(100, "S", 0)
    old.server(110, "A", 1, 1)
    old.client(111, "R", 1)
    new.client(1100, "S", 0)
    new.server(1110, "SA", 0, 1)
    new.client(1111, "A", 1, 1)
    trace = read(old.packets + new.packets)
    first, second = trace.connections
    assert [len(c.segments) for c in (first, second)] == [5, 4]
    assert (first.ended, second.ended) == (End.RST, End.OPEN)
    assert max(second.relative_seq(s) for s in second.segments) == 1


# -- retransmissions ------------------------------------------------------------------------


def make_whole_repeat(t):
    t.client(300, "PA", 101, 1, 100)


def make_partial_overlap(t):
    t.client(300, "PA", 151, 1, 100)


def make_fin_repeat(t):
    t.client(25, "FA", 201, 1)
    t.client(300, "FA", 201, 1)


def make_syn_ack_repeat(t):
    t.server(300, "SA", 0, 1)


def make_one_byte_repeat(t):
    t.client(25, "PA", 201, 1, 1)
    t.client(300, "PA", 201, 1, 1)


RETRANSMISSIONS = [value for name, value in list(globals().items()) if name.startswith("make_")]


def base(talk):
    t = talk()
    t.handshake()
    t.client(20, "PA", 1, 1, 100)
    t.client(21, "PA", 101, 1, 100)
    return t


@pytest.mark.parametrize("make", RETRANSMISSIONS)
def test_what_was_sent_before_is_a_retransmission(talk, only, make):
    t = base(talk)
    make(t)
    assert numbers(only(t).retransmissions()) == [len(t.packets)]


def test_new_data_reordered_before_the_capture_is_no_retransmission(talk, only):
    t = talk()
    t.handshake()
    t.client(20, "PA", 101, 1, 100)
    t.client(21, "PA", 1, 1, 100)
    connection = only(t)
    assert connection.retransmissions() == ()
    assert connection.by_initiator.unique_bytes == 200


def test_keepalive_probes_are_no_retransmissions(talk, only):
    t = base(talk)
    t.server(30, "A", 1, 201)
    t.client(1000, "A", 200, 1)
    t.client(2000, "A", 200, 1, 1)
    t.client(3000, "A", 200, 1, 1)
    connection = only(t)
    assert connection.retransmissions() == ()
    assert connection.by_initiator.unique_bytes == 200


def test_window_probes_are_no_retransmissions_nor_is_the_data_after_them(talk, only):
    t = base(talk)
    t.server(30, "A", 1, 201, window=0)
    t.client(300, "A", 201, 1, 1)
    t.server(301, "A", 1, 201, window=0)
    t.client(900, "A", 201, 1, 1)
    t.server(901, "A", 1, 201, window=500)
    t.client(902, "A", 201, 1, 100)
    assert only(t).retransmissions() == ()


def test_a_probe_that_was_accepted_counts_as_sent(talk, only):
    t = base(talk)
    t.server(30, "A", 1, 201, window=0)
    t.client(300, "A", 201, 1, 1)
    t.client(600, "A", 201, 1, 1)
    t.server(601, "A", 1, 202, window=500)
    t.client(602, "A", 202, 1, 100)
    connection = only(t)
    assert connection.retransmissions() == ()
    assert connection.by_initiator.unique_bytes == 301
    assert numbers(connection.by_initiator.window_probes) == [7, 8]
    t.client(900, "A", 201, 1, 101)
    assert numbers(only(t).retransmissions()) == [11]


def test_probes_without_a_byte_are_told_apart_by_the_window(talk, only):
    t = base(talk)
    t.server(30, "A", 1, 201)
    t.client(1000, "A", 200, 1)
    t.server(1001, "A", 1, 201, window=0)
    t.client(1300, "A", 200, 1)
    sent = only(t).by_initiator
    assert (numbers(sent.keepalives), numbers(sent.window_probes)) == ([7], [9])


def test_one_byte_before_the_ack_is_no_keepalive_while_data_is_in_flight(talk, only):
    t = base(talk)
    t.server(30, "A", 1, 101)
    t.client(300, "A", 100, 1, 1)
    assert numbers(only(t).retransmissions()) == [7]


def test_a_full_segment_repeated_into_a_closed_window_is_no_probe(talk, only):
    t = base(talk)
    t.server(30, "A", 1, 101, window=0)
    t.client(300, "A", 101, 1, 100)
    assert numbers(only(t).retransmissions()) == [7]


def test_unique_bytes_count_each_byte_once(talk, only):
    t = base(talk)
    make_partial_overlap(t)
    direction = only(t).by_initiator
    assert (direction.payload_bytes, direction.unique_bytes) == (300, 250)


def test_data_on_a_syn_counts_from_sequence_number_one(talk, only):
    t = talk()
    t.client(0, "S", 0, 0, 50)
    t.server(10, "SA", 0, 1)
    t.client(11, "A", 1, 1, 50)
    connection = only(t)
    assert numbers(connection.retransmissions()) == [3]
    assert connection.by_initiator.unique_bytes == 50
    assert connection.handshake.ack is not None


def test_sequence_numbers_wrap_around(talk, only):
    t = talk(client_isn=2**32 - 150)
    t.handshake()
    t.client(20, "PA", 1, 1, 100)
    t.client(21, "PA", 101, 1, 100)
    t.client(22, "PA", 201, 1, 100)
    t.client(300, "PA", 101, 1, 100)
    t.server(310, "A", 1, 301)
    connection = only(t)
    assert numbers(connection.retransmissions()) == [7]
    assert [connection.relative_seq(s) for s in connection.segments[3:7]] == [1, 101, 201, 101]
    assert connection.relative_ack(connection.segments[-1]) == 301
    assert connection.by_initiator.unique_bytes == 300


def test_tshark_finds_the_same_retransmissions(talk, read, tshark):
    for make in (*RETRANSMISSIONS[:2], make_fin_repeat, make_syn_ack_repeat):
        t = base(talk)
        make(t)
        trace = read(t)
        rows = tshark(trace.path, "frame.number", filter="tcp.analysis.retransmission")
        assert [int(row[0]) for row in rows] == numbers(trace.connections[0].retransmissions())


def test_tshark_finds_the_same_probes(talk, read, tshark):
    t = base(talk)
    t.server(30, "A", 1, 201)
    t.client(1000, "A", 200, 1, 1)
    t.server(1001, "A", 1, 201, window=0)
    t.client(2000, "A", 201, 1, 1)
    trace = read(t)
    probes = "tcp.analysis.keep_alive or tcp.analysis.zero_window_probe"
    assert [int(row[0]) for row in tshark(trace.path, "frame.number", filter=probes)] == [7, 9]
    assert trace.connections[0].retransmissions() == ()


def test_segments_above_the_mss_are_oversized(talk, only):
    t = talk()
    t.client(0, "S", 0)
    t.server(1, "SA", 0, 1, mss=1000)
    t.client(2, "A", 1, 1, 1000)
    t.client(3, "A", 1001, 1, 1001)
    t.server(4, "A", 1, 2002, 1460)
    connection = only(t)
    assert numbers(connection.by_initiator.oversized) == [4]
    assert connection.by_responder.oversized == ()


# -- the sets of sequence numbers behind it ---------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=40))
def test_ranges_are_a_set(spans):
    ranges, model = Ranges(), set()
    for start, length in spans:
        wanted = set(range(start, start + length))
        assert ranges.overlaps(start, start + length) == bool(wanted & model)
        assert ranges.covers(start, start + length) == (wanted <= model)
        ranges.add(start, start + length)
        model |= wanted
        assert ranges.total == len(model)
        assert ranges.end == (max(model) + 1 if model else None)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(-(2**20), 2**30), max_size=20))
def test_unwrapped_positions_follow_a_stream_past_the_wrap(origin, steps):
    unwrapper, position = Unwrapper(origin), 0
    for step in steps:
        target = position + step
        assert unwrapper.position((origin + target) % 2**32) == target
        position = max(position, target)


@given(st.integers(0, 2**32 - 1), st.integers(-(2**31), 2**31 - 1))
def test_difference_is_signed_and_wraps(base, distance):
    assert difference((base + distance) % 2**32, base) == distance


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.booleans(), st.sampled_from(
    ["S", "SA", "A", "PA", "FA", "R", "RA", "SR", "SF", ""]), st.integers(0, 5),
    st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=30))  # fmt: skip
def test_every_segment_is_in_exactly_one_connection(talk, read, sayings):
    t = talk()
    for number, (from_client, flags, seq, ack, size) in enumerate(sayings):
        (t.client if from_client else t.server)(number, flags, seq, ack, size)
    trace = read(t)
    grouped = [s for c in trace.connections for s in c.segments]
    assert sorted(numbers(grouped)) == list(range(1, len(sayings) + 1))
    for connection in trace.connections:
        sent = connection.by_initiator.segments + connection.by_responder.segments
        assert sorted(numbers(sent)) == numbers(connection.segments)
        assert set(connection.retransmissions()) <= set(sent)
        assert (connection.handshake_rtt, connection.ended) is not None
