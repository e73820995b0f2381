"""Link layers, tags, extension headers, fragments; packets that contradict themselves."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.inet6 import IPv6ExtHdrDestOpt as DestOpt
from scapy.layers.inet6 import IPv6ExtHdrHopByHop as HopByHop
from scapy.layers.inet6 import IPv6ExtHdrRouting as Routing
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Dot1Q, Ether, Loopback
from scapy.packet import Raw

# Given, lest scapy asks the network for them.
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}

V4 = IP(src="10.0.0.1", dst="10.0.0.2")
V4_OPTIONS = IP(src="10.0.0.1", dst="10.0.0.2", options=b"\x94\x04\0\0")
V6 = IPv6(src="fd00::1", dst="fd00::2")
SEGMENT = TCP(sport=1234, dport=80, seq=5, flags="PA") / Raw(b"payload")
SLL = bytes.fromhex("0000 0001 0006 020000000001 0000")
SLL2 = bytes.fromhex("0000 00000002 0001 00 06 0200000000010000")

SHAPES = {
    "ethernet": (1, bytes(Ether(**MACS) / V4 / SEGMENT)),
    "ethernet padded": (1, bytes(Ether(**MACS) / V4 / SEGMENT) + b"pad" * 9),
    "vlan": (1, bytes(Ether(**MACS) / Dot1Q(vlan=5) / V4 / SEGMENT)),
    "qinq": (1, bytes(Ether(**MACS, type=0x88A8) / Dot1Q(vlan=5) / Dot1Q(vlan=6) / V4 / SEGMENT)),
    "ip options": (1, bytes(Ether(**MACS) / V4_OPTIONS / SEGMENT)),
    "raw ipv4": (101, bytes(V4 / SEGMENT)),
    "raw ipv6": (101, bytes(V6 / SEGMENT)),
    "linktype ipv4": (228, bytes(V4 / SEGMENT)),
    "linktype ipv6": (229, bytes(V6 / SEGMENT)),
    "sll": (113, SLL + b"\x08\x00" + bytes(V4 / SEGMENT)),
    "sll ipv6": (113, SLL + b"\x86\xdd" + bytes(V6 / SEGMENT)),
    "sll2": (276, b"\x08\x00" + SLL2 + bytes(V4 / SEGMENT)),
    "null": (0, bytes(Loopback(type=2) / V4 / SEGMENT)),
    "null ipv6 of macOS": (0, b"\x1e\0\0\0" + bytes(V6 / SEGMENT)),
    "loop": (108, b"\0\0\0\x02" + bytes(V4 / SEGMENT)),
    "ipv6": (1, bytes(Ether(**MACS) / V6 / SEGMENT)),
    "ipv6 extensions": (
        1,
        bytes(Ether(**MACS) / V6 / HopByHop() / Routing() / DestOpt() / SEGMENT),
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_segment(read, pcap, shape):
    link, frame = SHAPES[shape]
    trace = read(pcap([(0, frame)], link=link))
    (segment,) = trace.segments
    v6 = ":" in segment.source.address
    assert (segment.source.address, segment.destination.address) == (
        ("fd00::1", "fd00::2") if v6 else ("10.0.0.1", "10.0.0.2")
    )
    assert (segment.source.port, segment.destination.port) == (1234, 80)
    assert (segment.seq, segment.flag_names) == (5, "ACK PSH")
    assert (segment.length, segment.payload, segment.captured) == (7, b"payload", 7)
    assert (trace.malformed, trace.other, segment.fragment) == (0, 0, False)


@pytest.mark.parametrize("shape", SHAPES)
def test_tshark_agrees_on_every_shape(read, pcap, tshark, shape):
    link, frame = SHAPES[shape]
    trace = read(pcap([(0, frame)], link=link))
    (segment,) = trace.segments
    (row,) = tshark(trace.path, "tcp.srcport", "tcp.dstport", "tcp.seq", "tcp.len", "tcp.payload")
    assert row == [
        *map(str, (segment.source.port, segment.destination.port, segment.seq, segment.length)),
        segment.payload.hex(),
    ]


def test_authentication_header_is_passed_over(read, pcap):
    header = AH(nh=6, payloadlen=4, spi=1, seq=1, icv=bytes(12))
    frame = bytes(Ether(**MACS) / V6 / header / bytes(SEGMENT))
    assert [s.length for s in read(pcap([(0, frame)])).segments] == [7]


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (IP(flags="MF") / SEGMENT, IP(frag=3, proto=6) / Raw(bytes(99))),
        (
            V6 / IPv6ExtHdrFragment(m=1, id=9) / SEGMENT,
            V6 / IPv6ExtHdrFragment(offset=3, nh=6) / Raw(bytes(99)),
        ),
    ],
)
def test_the_first_fragment_is_marked_and_later_ones_are_not_segments(read, pcap, first, later):
    trace = read(pcap([(0, bytes(Ether(**MACS) / first)), (1, bytes(Ether(**MACS) / later))]))
    assert [(s.fragment, s.length) for s in trace.segments] == [(True, 7)]
    assert (trace.other, trace.malformed) == (1, 0)


def test_a_snap_length_cuts_payload_but_not_lengths(read, pcap):
    frame = bytes(Ether(**MACS) / V4 / TCP(options=[("MSS", 1460)]) / Raw(bytes(1000)))
    trace = read(pcap([(0, frame)], snap=70))
    (segment,) = trace.segments
    assert (segment.length, segment.captured, len(segment.payload)) == (1000, 12, 12)
    assert segment.options.mss == 1460
    (cut_in_options,) = read(pcap([(0, frame)], snap=56)).segments
    assert (cut_in_options.length, cut_in_options.captured, cut_in_options.payload) == (
        1000,
        0,
        b"",
    )
    assert cut_in_options.options.malformed
    (up_to_the_window,) = read(pcap([(0, frame)], snap=50)).segments
    assert (up_to_the_window.window, up_to_the_window.length) == (8192, 1000)
    for snap in (1, 13, 14, 20, 33, 34, 40, 49):
        trace = read(pcap([(0, frame)], snap=snap))
        assert (trace.segments, trace.malformed, trace.cut) == ((), 0, 1), snap


@pytest.mark.parametrize("frame", ["v4", "v6"])
def test_the_length_is_that_of_the_ip_header_even_beyond_the_frame(read, pcap, frame):
    """As of captures on lo, or of a tool that cut frames without saying so."""
    network = {"v4": IP(len=1040), "v6": IPv6(plen=1020)}[frame]
    (segment,) = read(pcap([(0, bytes(Ether(**MACS) / network / SEGMENT))])).segments
    assert (segment.length, segment.captured, segment.payload) == (1000, 7, b"payload")


def _ip(**fields: int) -> bytes:
    return bytes(Ether(**MACS) / IP(src="10.0.0.1", dst="10.0.0.2", **fields) / SEGMENT)


def _ip6(**fields: int) -> bytes:
    return bytes(Ether(**MACS) / IPv6(src="fd00::1", dst="fd00::2", **fields) / SEGMENT)


@pytest.mark.parametrize(
    "frame",
    [
        _ip(len=30),
        _ip(len=19),
        _ip(len=10, proto=17),
        _ip(ihl=4),
        _ip(ihl=15),
        _ip(version=5),
        _ip6(plen=10),
        _ip6(version=4),
        bytes(Ether(**MACS) / V4 / TCP(dataofs=4)),
        bytes(Ether(**MACS) / V4 / TCP(dataofs=15)),
        bytes(Ether(**MACS) / V6 / HopByHop(len=200) / SEGMENT),
        bytes(Ether(**MACS) / V4)[:20],
        bytes(Ether(**MACS, type=0x8100)),
    ],
)
def test_a_packet_that_contradicts_itself_is_counted_as_malformed(read, pcap, frame):
    trace = read(pcap([(0, frame)]))
    assert (trace.segments, trace.malformed, trace.other) == ((), 1, 0)


def test_a_super_segment_without_a_total_length_takes_that_of_the_frame(read, pcap):
    frame = bytearray(bytes(Ether(**MACS) / V4 / TCP() / Raw(bytes(70_000 - 65_536))))
    frame[16:18] = b"\0\0"
    (segment,) = read(pcap([(0, bytes(frame))])).segments
    assert segment.length == 70_000 - 65_536
