"""Packets as bytes: offsets, keys, checksums, and what is made from scratch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_bench import IPV4_KEY, IPV6_KEY, LINUX, checksums_are_right, loaded
from scapy.layers import inet
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.packet import Raw

from testbed.wire.craft import reset_for, tcp_segment
from testbed.wire.flags import ACK, RST, SYN
from testbed.wire.ip import OPAQUE, TCP
from testbed.wire.packet import OUTSIDE, Packet, reverse_key

OVER_IPV4 = IP(src="10.0.1.1", dst="10.0.2.2", ttl=60)
OVER_IPV6 = IPv6(src="2001:db8:1::1", dst="2001:db8:2::2", hlim=60)
SEGMENT = inet.TCP(sport=40000, dport=80, seq=7, ack=9, flags="PA", window=512)


@pytest.mark.parametrize(
    ("ip", "key", "transport"), [(OVER_IPV4, IPV4_KEY, 20), (OVER_IPV6, IPV6_KEY, 40)]
)
def test_a_tcp_segment_as_scapy_builds_it(ip, key, transport):
    data = bytes(ip / SEGMENT / Raw(b"payload"))
    packet = loaded(data)
    assert packet.protocol == TCP and packet.key == key and packet.transport == transport
    assert (packet.seq, packet.ack, packet.flags, packet.window) == (7, 9, 0x18, 512)
    assert data[packet.payload : packet.end] == b"payload"
    assert packet.checksum_is_right()
    packet.buffer[-1] ^= 1
    assert not packet.checksum_is_right()


def test_ip_options_and_extension_headers_are_stepped_over():
    with_options = OVER_IPV4.copy()
    with_options.options = [b"\x94\x04\x00\x00"]
    packet = loaded(bytes(with_options / SEGMENT))
    assert packet.transport == 24 and packet.key == IPV4_KEY
    chain = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(segleft=0)
    packet = loaded(bytes(OVER_IPV6 / chain / SEGMENT))
    assert packet.protocol == TCP and packet.key == IPV6_KEY and packet.checksum_is_right()
    whole = IPv6ExtHdrFragment(m=0, offset=0)
    assert loaded(bytes(OVER_IPV6 / whole / SEGMENT)).protocol == TCP


@pytest.mark.parametrize(
    "data",
    [
        bytes(IP(flags="MF") / SEGMENT),
        bytes(IP(frag=1) / SEGMENT),
        bytes(OVER_IPV6 / IPv6ExtHdrFragment(m=1) / SEGMENT),
        bytes(OVER_IPV6 / IPv6ExtHdrFragment(offset=3) / SEGMENT),
        bytes(OVER_IPV6 / IPv6ExtHdrRouting(segleft=1) / SEGMENT),
        bytes(IP(len=39) / SEGMENT),
        bytes(IP() / inet.TCP(dataofs=4)),
        bytes(IP() / inet.TCP(dataofs=6)),
        bytes(IP(proto=17, len=27) / UDP()),
        bytes(OVER_IPV6)[:4] + b"\0\4\0" + bytes(OVER_IPV6)[7:] + b"\6\0\0\0",
        bytes(OVER_IPV6)[:4] + b"\0\x08\0" + bytes(OVER_IPV6)[7:] + b"\6\xff" + bytes(6),
    ],
)
def test_what_has_no_usable_transport_header_is_opaque(data):
    assert loaded(data).protocol == OPAQUE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x45" * 19,
        b"\x75" + bytes(40),
        bytes(IP(ihl=4) / SEGMENT),
        bytes(IP(ihl=15) / UDP())[:28],
        bytes(IP(len=41) / SEGMENT),
        bytes(IP(len=19) / SEGMENT),
        bytes(OVER_IPV6)[:39],
        bytes(IPv6(plen=21) / SEGMENT),
    ],
)
def test_what_is_no_packet_is_not_loaded(data):
    assert not Packet().load(bytearray(data), len(data), OUTSIDE)


PLAIN = [
    bytes(ip / transport / Raw(bytes(40)))
    for ip in (OVER_IPV4, OVER_IPV6)
    for transport in (SEGMENT, UDP())
]


@given(
    st.sampled_from(PLAIN),
    st.dictionaries(st.integers(0, 59), st.integers(0, 255), max_size=3),
    st.integers(40, 100),
)
def test_one_look_sees_what_a_thorough_one_sees(whole, damages, length):
    data = bytearray(whole.ljust(100, b"\0"))
    for at, value in damages.items():
        data[at] = value
    packet = Packet()
    sound = packet.load(data, length, OUTSIDE)
    thorough = Packet()
    thorough.buffer, thorough.length, thorough.side = data, length, OUTSIDE
    assert thorough._load_any() == sound
    if sound:
        for name in ("version", "protocol", "transport", "end", "key"):
            assert getattr(packet, name) == getattr(thorough, name)


@pytest.mark.parametrize("key", [IPV4_KEY, IPV6_KEY])
@pytest.mark.parametrize("payload", [b"", b"odd", b"even"])
def test_a_segment_made_here_is_what_scapy_would_make(key, payload):
    data = tcp_segment(
        key,
        seq=-1,
        ack=1 << 32,
        flags=SYN | ACK,
        window=99,
        options=LINUX.encode(),
        payload=payload,
    )
    ip = (IP if key is IPV4_KEY else IPv6)(bytes(data))
    made = ip[inet.TCP]
    assert (made.sport, made.dport, made.seq, made.ack) == (40000, 80, 0xFFFFFFFF, 0)
    assert (str(made.flags), made.window) == ("SA", 99)
    assert dict(made.options) == {
        "MSS": 1460, "SAckOK": b"", "Timestamp": (1000, 0), "NOP": None, "WScale": 7
    }  # fmt: skip
    sums = (ip.chksum, made.chksum) if key is IPV4_KEY else made.chksum
    if key is IPV4_KEY:
        del ip.chksum
    del made.chksum
    again = type(ip)(bytes(ip))
    assert sums == (
        (again.chksum, again[inet.TCP].chksum) if key is IPV4_KEY else again[inet.TCP].chksum
    )
    assert bytes(again) == bytes(data) and checksums_are_right(data)


def test_a_reset_answers_what_belongs_to_no_connection():
    for fields, seq, ack, flags in (
        ({"seq": 5, "ack": 77, "flags": ACK}, 77, 0, RST),
        ({"seq": 5, "flags": SYN}, 0, 6, RST | ACK),
        ({"seq": 0xFFFFFFFF, "flags": 0, "payload": b"abc"}, 0, 2, RST | ACK),
    ):
        answer = loaded(reset_for(loaded(tcp_segment(IPV4_KEY, **fields))))
        assert answer.key == reverse_key(IPV4_KEY)
        assert (answer.seq, answer.ack, answer.flags) == (seq, ack, flags)
        assert answer.checksum_is_right()
