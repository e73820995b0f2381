"""Link layers, tags and tunnels around a connection."""

from __future__ import annotations

import random
import struct

import pytest
from scapy.contrib.erspan import ERSPAN, ERSPAN_I
from scapy.contrib.geneve import GENEVE
from scapy.contrib.gtp import GTP_U_Header
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Dot1AD, Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from testbed.trace.headers import _plain, _Walk

# Given, lest scapy asks the network for them.
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
E = Ether(**MACS)
ENDS = ("192.0.2.1", "192.0.2.2")
SEGMENT = TCP(sport=1234, dport=80, seq=5, flags="PA") / Raw(b"payload")
SLL = bytes.fromhex("0000 0001 0006 020000000001 0000")
SLL2 = bytes.fromhex("0000 00000002 0001 00 06 0200000000010000")
GTP = {"gtp_type": 255, "teid": 7}


def v4(there: bool = True) -> IP:
    ends = ("10.0.0.1", "10.0.0.2")[:: 1 if there else -1]
    return IP(src=ends[0], dst=ends[1])


def v6(there: bool = True) -> IPv6:
    ends = ("fd00::1", "fd00::2")[:: 1 if there else -1]
    return IPv6(src=ends[0], dst=ends[1])


def outer(there: bool = True) -> IP:
    ends = ENDS[:: 1 if there else -1]
    return IP(src=ends[0], dst=ends[1])


def outer6() -> IPv6:
    return IPv6(src="2001:db8::1", dst="2001:db8::2")


def nflog(family: int, packet: bytes, order: str = "<") -> bytes:
    attributes = struct.pack(f"{order}HH4s", 8, 1, bytes(4))
    attributes += struct.pack(f"{order}HH", 4 + len(packet), 9) + packet + bytes(-len(packet) % 4)
    return struct.pack("!BBH", family, 0, 0) + attributes


BETWEEN = "192.0.2.1 - 192.0.2.2"
BETWEEN6 = "2001:db8::1 - 2001:db8::2"
I4 = v4() / SEGMENT
I6 = v6() / SEGMENT
#: Name: link type, frame, what it says is around the segment.
SHAPES = {
    "ppp": (9, b"\xff\x03\x00\x21" + bytes(I4), ()),
    "ppp without address": (9, b"\x00\x21" + bytes(I4), ()),
    "ppp compressed": (9, b"\xff\x03\x21" + bytes(I4), ()),
    "ppp ipv6": (9, b"\xff\x03\x00\x57" + bytes(I6), ()),
    "ppp serial": (50, b"\xff\x03\x00\x21" + bytes(I4), ()),
    "ppp with direction": (166, b"\x01\xff\x03\x00\x21" + bytes(I4), ()),
    "ppp ether": (51, bytes(PPPoE(sessionid=9) / PPP() / I4), ("PPPoE session 9",)),
    "cisco hdlc": (104, b"\x0f\x00\x08\x00" + bytes(I4), ()),
    "pppoe": (1, bytes(E / PPPoE(sessionid=9) / PPP() / I4), ("PPPoE session 9",)),
    "mpls": (1, bytes(E / MPLS(label=16, s=0, ttl=9) / MPLS(label=17, s=1, ttl=9) / I4), ("MPLS",)),
    "mpls ethernet": (
        1, bytes(E / MPLS(label=16, s=1, ttl=9) / Raw(bytes(4)) / E / I4), ("MPLS",)
    ),
    "snap": (1, bytes(E)[:12] + b"\0\x40\xaa\xaa\x03\0\0\0\x08\0" + bytes(I4), ()),
    "vlan": (1, bytes(E / Dot1Q(vlan=5) / I4), ("VLAN 5",)),
    "vlan of a priority only": (1, bytes(E / Dot1Q(vlan=0, prio=3) / I4), ()),
    "qinq": (1, bytes(E / Dot1AD(vlan=5) / Dot1Q(vlan=6) / I4), ("VLAN 5", "VLAN 6")),
    "vlan in sll": (113, SLL + b"\x81\0\0\5\x08\0" + bytes(I4), ("VLAN 5",)),
    "vlan in sll2": (276, b"\x81\0" + SLL2 + b"\0\5\x08\0" + bytes(I4), ("VLAN 5",)),
    "nflog": (239, nflog(2, bytes(I4)), ()),
    "nflog ipv6 of a big machine": (239, nflog(10, bytes(I6), ">"), ()),
    "4in4": (1, bytes(E / outer() / I4), (f"IP in IP {BETWEEN}",)),
    "6in4": (1, bytes(E / outer() / I6), (f"IP in IP {BETWEEN}",)),
    "4in6": (1, bytes(E / outer6() / I4), (f"IP in IP {BETWEEN6}",)),
    "6in6": (1, bytes(E / outer6() / I6), (f"IP in IP {BETWEEN6}",)),
    "gre": (1, bytes(E / outer() / GRE(proto=0x800) / I4), (f"GRE {BETWEEN}",)),
    "gre ipv6": (1, bytes(E / outer() / GRE(proto=0x86DD) / I6), (f"GRE {BETWEEN}",)),
    "gre with key": (
        1,
        bytes(E / outer() / GRE(proto=0x800, key_present=1, key=77, seqnum_present=1) / I4),
        (f"GRE key 77 {BETWEEN}",),
    ),
    "gre with checksum": (
        1, bytes(E / outer() / GRE(proto=0x800, chksum_present=1) / I4), (f"GRE {BETWEEN}",)
    ),
    "gre ethernet": (
        1, bytes(E / outer() / GRE(proto=0x6558) / E / Dot1Q(vlan=3) / I4),
        (f"GRE {BETWEEN}", "VLAN 3"),
    ),
    "pptp": (
        1,
        bytes(E / IP(src=ENDS[0], dst=ENDS[1], proto=47))
        + bytes.fromhex("3001880b") + struct.pack("!HHI", 51, 5, 1)
        + b"\xff\x03\x00\x21" + bytes(I4),
        (f"PPTP {BETWEEN}",),
    ),
    "erspan": (
        1,
        bytes(E / outer() / GRE(proto=0x88BE, seqnum_present=1) / ERSPAN() / E / I4),
        (f"ERSPAN {BETWEEN}",),
    ),
    "erspan type 1": (
        1, bytes(E / outer() / GRE(proto=0x88BE) / ERSPAN_I() / E / I4), (f"ERSPAN {BETWEEN}",)
    ),
    "vxlan": (
        1, bytes(E / outer() / UDP(sport=5, dport=4789) / VXLAN(vni=42, flags=8) / E / I4),
        (f"VXLAN 42 {BETWEEN}",),
    ),
    "geneve": (
        1, bytes(E / outer() / UDP(sport=5, dport=6081) / GENEVE(vni=42, proto=0x6558) / E / I4),
        (f"Geneve 42 {BETWEEN}",),
    ),
    "gtp-u": (
        1, bytes(E / outer() / UDP(sport=2152, dport=2152) / GTP_U_Header(**GTP) / I4),
        (f"GTP-U {BETWEEN}",),
    ),
    "gtp-u with extension": (
        1,
        bytes(E / outer() / UDP(sport=2152, dport=2152))
        + struct.pack("!BBHI", 0x34, 255, len(I4) + 8, 7) + b"\0\0\0\x85\x01\x10\x01\0"
        + bytes(I4),
        (f"GTP-U {BETWEEN}",),
    ),
    "all at once": (
        1,
        bytes(E / Dot1Q(vlan=5) / outer() / UDP(sport=5, dport=4789) / VXLAN(vni=1, flags=8)
              / E / Dot1Q(vlan=6) / outer6() / GRE(proto=0x800) / I4),
        ("VLAN 5", f"VXLAN 1 {BETWEEN}", "VLAN 6", f"GRE {BETWEEN6}"),
    ),
}  # fmt: skip


def fix_lengths(frame: bytes) -> bytes:
    """The frame with the outermost IPv4 length that it really has (bytes were put behind it)."""
    if frame[12:14] == b"\x08\0" and frame[14] == 0x45:
        frame = frame[:16] + struct.pack("!H", len(frame) - 14) + frame[18:]
    if frame[23:24] == b"\x11":
        frame = frame[:38] + struct.pack("!H", len(frame) - 34) + frame[40:]
    return frame


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_inside_is_found_and_what_is_around_is_told(read, pcap, shape):
    link, frame, around = SHAPES[shape]
    trace = read(pcap([(0, fix_lengths(frame))], link=link))
    (segment,) = trace.segments
    assert (segment.source.port, segment.destination.port) == (1234, 80)
    assert (segment.seq, segment.length, segment.payload) == (5, 7, b"payload")
    assert (trace.malformed, trace.other, trace.cut) == (0, 0, 0)
    assert trace.connections[0].around == segment.flow.around == around
    assert segment.hops_left == 64


@pytest.mark.parametrize("shape", SHAPES)
def test_tshark_agrees(read, pcap, tshark, shape):
    if shape in ("ppp with direction", "mpls ethernet", "nflog ipv6 of a big machine"):
        pytest.skip("tshark does not read this one, or only with preferences")
    link, frame, _ = SHAPES[shape]
    trace = read(pcap([(0, fix_lengths(frame))], link=link))
    (row,) = tshark(trace.path, "tcp.srcport", "tcp.dstport", "tcp.seq", "tcp.len", "tcp.payload")
    assert row == ["1234", "80", "5", "7", b"payload".hex()]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_frame_cut_anywhere_is_read_or_counted(read, pcap, shape):
    link, frame, _ = SHAPES[shape]
    frame = fix_lengths(frame)
    for snap in range(1, len(frame)):
        trace = read(pcap([(0, frame)], link=link, snap=snap))
        assert len(trace.segments) + trace.cut + trace.malformed + trace.other == 1
        assert bool(trace.segments) == (snap >= frame.index(b"payload") - 4)


def both_ways(wrap) -> list[tuple[int, bytes]]:
    one = v4() / TCP(sport=1, dport=2, flags="S", seq=10)
    other = v4(False) / TCP(sport=2, dport=1, flags="SA", seq=90, ack=11)
    return [(0, bytes(wrap(one, True))), (1000, bytes(wrap(other, False)))]


WRAPS = {
    "vlan": lambda packet, there: E / Dot1Q(vlan=5) / packet,
    "gre": lambda packet, there: E / outer(there) / GRE(proto=0x800) / packet,
    "vxlan": lambda packet, there: (
        E / outer(there) / UDP(sport=5 + there, dport=4789) / VXLAN(vni=4, flags=8) / E / packet
    ),
    "gtp": lambda packet, there: (
        E / outer(there) / UDP(sport=2152, dport=2152) / GTP_U_Header(gtp_type=255, teid=5 + there)
        / packet
    ),
    "mpls": lambda packet, there: E / MPLS(label=16 + there, s=1, ttl=9) / packet,
}  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPS)
def test_both_directions_of_a_tunnel_are_one_connection(read, pcap, wrap):
    trace = read(pcap(both_ways(WRAPS[wrap])))
    assert [len(connection.segments) for connection in trace.connections] == [2]


def test_the_same_endpoints_in_two_vlans_are_two_connections(read, pcap):
    frames = [
        packet
        for vlan in (5, 6)
        for packet in both_ways(lambda packet, _, vlan=vlan: E / Dot1Q(vlan=vlan) / packet)
    ]
    trace = read(pcap(frames))
    assert [(c.around, len(c.segments)) for c in trace.connections] == [
        (("VLAN 5",), 2),
        (("VLAN 6",), 2),
    ]


def tagged(packet, *vlans: int):
    for vlan in reversed(vlans):
        packet = Dot1Q(vlan=vlan) / packet
    return E / packet


@pytest.mark.parametrize(("there", "back"), [((5,), ()), ((), (5,)), ((5,), (6,)), ((5, 6), (5,))])
@pytest.mark.parametrize("answer_first", [False, True])
def test_a_tag_in_one_direction_only_parts_no_connection(read, pcap, there, back, answer_first):
    """Connections are those that they are without tags; the ports are used twice."""

    def connections(there, back):
        frames = []
        for isn in (10, 5000):
            syn = v4() / TCP(sport=40001, dport=2, flags="S", seq=isn)
            answer = v4(False) / TCP(sport=2, dport=40001, flags="SA", seq=isn + 90, ack=isn + 1)
            sent = [tagged(syn, *there), tagged(answer, *back)]
            frames += reversed(sent) if answer_first else sent
        frames.insert(1, tagged(v4() / TCP(sport=40001, dport=3, flags="S", seq=7), 5))
        trace = read(pcap([(number, bytes(frame)) for number, frame in enumerate(frames)]))
        return [
            (
                one.number,
                one.initiator,
                one.guessed,
                [s.number for s in one.segments],
                [len(direction.segments) for direction in one.directions],
            )
            for one in trace.connections
        ]

    assert connections(there, back) == connections((), ())


def test_halves_that_may_belong_to_several_connections_are_left_apart(read, pcap):
    syn, answer = (packet for _, packet in both_ways(lambda packet, _: packet))
    frames = [E / Dot1Q(vlan=5) / IP(syn), E / Dot1Q(vlan=6) / IP(syn), E / IP(answer)]
    trace = read(pcap([(number, bytes(frame)) for number, frame in enumerate(frames)]))
    assert [len(connection.segments) for connection in trace.connections] == [1, 1, 1]


@pytest.mark.parametrize(
    ("link", "frame", "others", "unread"),
    [
        (1, bytes(E / outer() / UDP(sport=5, dport=4789) / Raw(b"no VXLAN")), {"UDP": 1}, {}),
        (1, bytes(E / IP(proto=50) / Raw(bytes(40))), {"ESP (encrypted)": 1}, {}),
        (1, bytes(E / IP(proto=200) / Raw(bytes(40))), {"IP protocol 200": 1}, {}),
        (1, bytes(Ether(**MACS, type=0x0806) / Raw(bytes(28))), {"ARP": 1}, {}),
        (1, bytes(Ether(**MACS, type=0x4321) / Raw(bytes(28))), {}, {"EtherType 0x4321": 1}),
        (127, bytes(60), {}, {"link type 127 (IEEE 802.11, radiotap)": 1}),
        (4242, bytes(60), {}, {"link type 4242": 1}),
        (9, b"\xff\x03\xc0\x21" + bytes(9), {"PPP control": 1}, {}),
        (9, b"\xff\x03\x00\x2d" + bytes(9), {}, {"PPP protocol 0x002d": 1}),
    ],
)
def test_what_is_not_read_is_named(read, pcap, link, frame, others, unread):
    trace = read(pcap([(0, frame)], link=link))
    assert (trace.others, trace.unread, trace.malformed) == (others, unread, 0)


def test_tunnels_without_end_are_malformed(read, pcap):
    packet = v4() / SEGMENT
    for _ in range(40):
        packet = outer() / packet
    trace = read(pcap([(0, bytes(packet))], link=101))
    assert (trace.segments, trace.malformed) == ((), 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_frame_with_any_bytes_changed_is_read_or_counted(read, pcap, shape):
    link, frame, _ = SHAPES[shape]
    frame = fix_lengths(frame)
    chance = random.Random(shape)
    frames = []
    for _ in range(300):
        changed = bytearray(frame)
        for at in chance.sample(range(len(frame)), chance.randrange(1, 5)):
            changed[at] = chance.randrange(256)
        frames.append((0, bytes(changed[: chance.randrange(len(frame)) + 1])))
    trace = read(pcap(frames, link=link))
    counted = len(trace.segments) + trace.cut + trace.malformed + trace.other
    assert counted == trace.packets == 300
    for connection in trace.connections:
        assert all(one.unique_bytes >= 0 for one in connection.directions)
        assert all(segment.hops_left >= 0 for segment in connection.segments)


@pytest.mark.parametrize("shape", [*SHAPES, "ipv6"])
def test_the_short_cut_gives_what_the_walk_through_the_layers_gives(shape):
    frame = fix_lengths(SHAPES[shape][1]) if shape in SHAPES else bytes(E / I6)
    chance = random.Random(shape)
    taken = 0
    for number in range(300):
        changed = bytearray(frame)
        for at in chance.sample(range(len(frame)), chance.randrange(3) if number else 0):
            changed[at] = chance.randrange(256)
        data = bytes(changed[: len(frame) if number % 2 == 0 else chance.randrange(58, 200)])
        found = _plain(data, 0, len(data)) if len(data) >= 58 else None
        if found is not None:
            taken += 1
            assert found == _Walk(data, len(data), len(frame)).link(1, 0)
    assert taken > 100 or shape not in ("vlan", "ipv6")
