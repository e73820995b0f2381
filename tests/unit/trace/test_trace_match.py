"""One segment in two captures, through boxes that forward, answer, drop and translate."""

from __future__ import annotations

import pytest

from testbed.trace.match import match_connections, match_segments


@pytest.fixture
def pairs(read):
    """Pairs of frame numbers matched between the only connections of two talks."""

    def match(near, far):
        (one,) = read(near, "near.pcap").connections
        (other,) = read(far, "far.pcap").connections
        crossings = match_segments(one, other)
        assert all(crossing.transit >= -1000 for crossing in crossings)
        return [(crossing.upstream.number, crossing.downstream.number) for crossing in crossings]

    return match


def forwarded(talk, delay=10.0, **far_isns):
    """The same conversation before and behind a link of `delay` ms."""
    near, far = talk(), talk(**far_isns)
    for t, to, back in ((near, 0, 2 * delay), (far, delay, delay)):
        t.client(0 + to, "S", 0)
        t.server(0.1 + back, "SA", 0, 1)
        t.client(2 * delay + 0.2 + to, "A", 1, 1)
        t.client(2 * delay + 0.3 + to, "PA", 1, 1, 500)
        t.server(2 * delay + 0.4 + back, "PA", 1, 501, 700)
    return near, far


def test_a_plain_path_matches_everything(talk, pairs):
    near, far = forwarded(talk)
    assert pairs(near, far) == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]


def test_an_offset_of_the_responder_isn_is_seen_through(talk, pairs):
    near, far = forwarded(talk, server_isn=4_294_967_000)
    assert pairs(near, far) == [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]


def test_payload_decides_where_numbers_agree(talk, pairs):
    near, far = forwarded(talk)
    near.client(100, "PA", 501, 701, data=b"aaaa")
    far.client(110, "PA", 501, 701, data=b"bbbb")
    assert (6, 6) not in pairs(near, far)


def test_the_dropped_first_copy_is_not_matched_to_the_forwarded_second(talk, pairs):
    near, far = forwarded(talk)
    near.client(100, "PA", 501, 701, 50)
    near.client(1100, "PA", 501, 701, 50)
    far.client(1110, "PA", 501, 701, 50)
    assert pairs(near, far)[-1] == (7, 6)


def test_the_dropped_second_copy_leaves_the_first_matched(talk, pairs):
    near, far = forwarded(talk)
    near.client(100, "PA", 501, 701, 50)
    far.client(110, "PA", 501, 701, 50)
    near.client(300, "PA", 501, 701, 50)
    assert pairs(near, far)[-1] == (6, 6)


def test_copies_of_a_long_path_are_matched_in_order(talk, pairs):
    near, far = forwarded(talk, delay=100)
    for at in (1000, 1020, 1040):
        near.client(at, "PA", 501, 701, 50)
    for at in (1100, 1140):  # the second one is lost
        far.client(at, "PA", 501, 701, 50)
    assert pairs(near, far)[-2:] == [(6, 6), (8, 7)]


def test_a_copy_is_never_earlier_downstream(talk, pairs):
    near, far = forwarded(talk)
    near.client(200, "PA", 501, 701, 50)
    far.client(150, "PA", 501, 701, 50)
    assert (6, 6) not in pairs(near, far)


@pytest.mark.parametrize("server_rtt", [0.1, 60.0])
def test_what_a_proxy_says_itself_has_no_copy(talk, pairs, server_rtt):
    """The box answers the SYN and opens to the server on its own, fast or slowly."""
    near, far = talk(), talk(server_isn=555)
    near.client(0, "S", 0)
    near.server(20, "SA", 0, 1)
    near.client(20.1, "A", 1, 1, 100)
    far.client(10.1, "S", 0)
    far.server(10.1 + server_rtt, "SA", 0, 1)
    far.client(10.2 + server_rtt, "A", 1, 1)
    far.client(80.3, "A", 1, 1, 100)
    far.server(80.4, "PA", 1, 101, 100)
    near.server(90.4, "PA", 1, 101, 100)
    assert pairs(near, far) == [(1, 1), (3, 4), (5, 4)]


def test_captures_without_a_syn_are_matched_by_plain_numbers(talk, pairs):
    near, far = talk(), talk()
    far.client(5, "PA", 1, 1, 10)  # only the later capture has this one
    for seq in (11, 21, 31):
        near.client(seq, "PA", seq, 1, 10)
        far.client(seq + 5, "PA", seq, 1, 10)
    assert pairs(near, far) == [(1, 2), (2, 3), (3, 4)]


def test_snap_lengths_do_not_spoil_the_match(talk, read, pcap):
    near, far = forwarded(talk)
    (one,) = read(pcap(sorted(near.packets), snap=80), "near.pcap").connections
    (other,) = read(far, "far.pcap").connections
    assert len(match_segments(one, other)) == 5


def _numbered(result):
    return [(pair.near.number, pair.far.number) for pair in result]


def test_connections_are_matched_by_their_endpoints(talk, read):
    near, far = [], []
    for port in (40000, 40001, 40002):
        for capture, at in ((near, 0), (far, 5)):
            t = talk(client=("10.0.0.1", port))
            t.handshake(at + port % 10)
            capture += t.packets
    only_far = talk(client=("10.0.0.9", 1))
    only_far.handshake(0)
    result = match_connections(read(near, "n.pcap"), read(only_far.packets + far, "f.pcap"))
    assert _numbered(result) == [(1, 2), (2, 3), (3, 4)]


def test_reused_endpoints_are_told_apart_by_isn_and_time(talk, read):
    near, far = [], []
    for number, isn in enumerate((100, 200_000, 30_000_000)):
        t = talk(client_isn=isn)
        t.handshake(number * 1000)
        near += t.packets
        if number:  # the first one never got through
            t = talk(client_isn=isn, server_isn=isn * 7)
            t.handshake(number * 1000 + 5)
            far += t.packets
    result = match_connections(read(near, "n.pcap"), read(far, "f.pcap"))
    assert _numbered(result) == [(2, 1), (3, 2)]


@pytest.mark.parametrize(
    "changed", [{"server": ("10.9.9.9", 8080)}, {"client": ("192.0.2.1", 1024)}]
)
def test_rewritten_endpoints_are_matched_by_what_is_left(talk, read, changed):
    near, far = talk(), talk(**changed)
    near.handshake(0)
    far.handshake(2)
    assert _numbered(match_connections(read(near, "n.pcap"), read(far, "f.pcap"))) == [(1, 1)]
    late = talk(**changed)
    late.handshake(60_000)
    assert match_connections(read(near, "n.pcap"), read(late, "l.pcap")) == ()
