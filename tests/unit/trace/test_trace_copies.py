"""Packets that a capture holds twice are not what TCP sent again."""

from __future__ import annotations

import time

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw


def numbers(segments):
    return [segment.number for segment in segments]


def transfer(talk):
    t = talk()
    t.handshake()
    t.client(20, "PA", 1, 1, 100)
    return t


def test_a_packet_captured_twice_is_no_retransmission(talk, only):
    t = transfer(talk)
    t.again()
    t.client(300, "PA", 1, 1, 100)
    connection = only(t)
    sent = connection.by_initiator
    assert (numbers(sent.repeated), numbers(sent.retransmissions())) == ([5], [6])
    assert (sent.forwarded, sent.unique_bytes, sent.payload_bytes) == ((), 100, 200)


def test_what_tcp_sends_again_at_once_is_a_retransmission(talk, only):
    t = transfer(talk)
    t.client(20.01, "PA", 1, 1, 100)
    connection = only(t)
    assert numbers(connection.retransmissions()) == [5]
    assert connection.by_initiator.copies == ()


def test_a_copy_comes_soon_and_has_the_same_bytes(talk, only):
    t = transfer(talk)
    t.again(after=51)
    t.client(200, "PA", 101, 1, data=b"a", identification=9)
    t.client(200.1, "PA", 101, 1, data=b"b", identification=9)
    assert numbers(only(t).retransmissions()) == [5, 7]


def test_fewer_hops_left_is_the_same_packet_further_on(talk, only):
    """A router whose two legs are one interface, captured there."""
    t = talk()
    for speak, flags, seq, ack, size in (
        (t.client, "S", 0, 0, 0), (t.server, "SA", 0, 1, 0), (t.client, "A", 1, 1, 0),
        (t.client, "PA", 1, 1, 100), (t.server, "A", 1, 101, 0), (t.server, "FA", 1, 101, 0),
    ):  # fmt: skip
        speak(10 * len(t.packets), flags, seq, ack, size)
        t.again(ttl=63)
    connection = only(t)
    both = connection.directions
    assert connection.retransmissions() == ()
    assert [numbers(one.forwarded) for one in both] == [[2, 6, 8], [4, 10, 12]]
    assert [one.repeated for one in both] == [(), ()]
    assert (connection.handshake_rtt.total, connection.handshake_rtt.doubt) == (40_000_000, "")


def test_the_same_packet_on_another_interface_is_a_copy_after_a_long_way_too(talk, read, pcapng):
    t = transfer(talk)
    file = pcapng()
    file.interface(resolution=9)
    file.interface(resolution=9)
    for interface, late in ((0, 0), (1, 300_000_000)):
        for at, frame in t.packets:
            file.packet(at + late, frame, interface=interface)
    (connection,) = read(file.data).connections
    assert connection.retransmissions() == ()
    assert numbers(connection.by_initiator.forwarded) == [5, 7, 8]
    assert {s.interface for s in connection.by_initiator.forwarded} == {1}


@pytest.mark.parametrize(("stamps", "copies"), [((5, 6), [2]), (None, [])])
def test_without_an_identification_time_stamps_tell(read, stamps, copies):
    options = [("Timestamp", stamps)] if stamps else []
    header = TCP(sport=1, dport=2, seq=5, flags="PA", options=options) / Raw(b"data")
    macs = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
    for network in (IPv6(src="fd00::1", dst="fd00::2"), IP(src="10.0.0.1", dst="10.0.0.2", id=0)):
        frame = bytes(Ether(**macs) / network / header)
        (connection,) = read([(0, frame), (100_000, frame)]).connections
        sent = (*connection.by_initiator.repeated, *connection.by_responder.repeated)
        assert numbers(sent) == copies
        assert numbers(connection.retransmissions()) == [2][: 1 - len(copies)]


V4 = IP(src="10.0.0.1", dst="10.0.0.2", id=0)
V4_NUMBERED = IP(src="10.0.0.1", dst="10.0.0.2", id=7)
V6 = IPv6(src="fd00::1", dst="fd00::2")
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("network", "stamps", "later", "copies"),
    [
        (V6, (None, None), SECOND, 0),
        (V4, (None, None), 60 * SECOND, 0),
        (V6, (None, None), SECOND // 100, 1),
        (V6, ((5, 6), (5, 6)), SECOND // 4, 1),
        (V4, ((5, 6), (5, 6)), SECOND // 4, 1),
        (V6, ((5, 6), (6, 6)), SECOND // 100, 0),
        (V6, ((5, 6), (5, 6)), 300 * SECOND, 0),
        (V4_NUMBERED, (None, None), SECOND, 1),
        (V4_NUMBERED, (None, None), 300 * SECOND, 0),
    ],
)
def test_what_is_sent_again_over_another_interface_is_no_copy(
    read, pcapng, network, stamps, later, copies
):
    file = pcapng()
    for interface, (at, stamp) in enumerate(zip((0, later), stamps, strict=True)):
        file.interface(resolution=9)
        options = [("Timestamp", stamp)] if stamp else []
        header = TCP(sport=2, dport=1, seq=5, flags="PA", options=options) / Raw(b"data")
        macs = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
        file.packet(at, bytes(Ether(**macs) / network / header), interface=interface)
    (connection,) = read(file.data).connections
    assert len(connection.by_initiator.forwarded) == copies
    assert len(connection.retransmissions()) == 1 - copies


@pytest.mark.parametrize("kind", ["numbered", "IPv6", "at one time"])
def test_many_duplicate_acks_cost_in_proportion(read, kind):
    macs = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
    network = V6 if kind == "IPv6" else V4_NUMBERED
    ack = bytearray(bytes(Ether(**macs) / network / TCP(sport=1, dport=2, flags="A", ack=9)))

    def cost(number):
        packets = []
        for index in range(number):
            if network is V4_NUMBERED:
                ack[18:20] = (index % 65535 + 1).to_bytes(2, "big")
            packets.append((0 if kind == "at one time" else 4 * index, bytes(ack)))
        (connection,) = read(packets).connections
        began = time.process_time()
        assert sum(len(one.segments) for one in connection.directions) == number
        return time.process_time() - began

    least = min(cost(1500) for _ in range(3))
    assert min(cost(6000) for _ in range(3)) < 9 * least


def test_copies_can_be_left_out(talk, read, tmp_path):
    from testbed.trace import read_trace

    t = transfer(talk)
    t.again()
    t.again(ttl=60)
    trace = read(t)
    assert len(trace.segments) == 6
    clean = read_trace(trace.path, ignore_copies=True)
    assert (numbers(clean.segments), clean.copies_ignored) == ([1, 2, 3, 4], 2)
    assert [numbers(c.segments) for c in clean.connections] == [[1, 2, 3, 4]]
    assert clean.connections[0].by_initiator.copies == ()


def test_duplicate_acks_are_no_copies(talk, only):
    t = transfer(talk)
    for _ in range(3):
        t.server(30, "A", 1, 101)
    assert only(t).by_responder.copies == ()
