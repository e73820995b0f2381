"""ICMP errors beside scapy: made, refused, read back from what they quote, translated."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packet_bench import IPV4_KEY, IPV6_KEY, checksums_are_right, loaded
from scapy.layers import inet
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_Redirect,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.packet import Packet as Layer
from scapy.packet import Raw

from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK
from testbed.wire.icmp import (
    TOO_BIG,
    error_about,
    icmp_error,
    mtu_told,
    quoted_packet,
    quoted_segment,
    translate_quote,
)
from testbed.wire.ip import ICMP, ICMPV6, TCP
from testbed.wire.ip import UDP as UDP_NUMBER

OVER_IPV4 = IP(src="10.0.1.1", dst="10.0.2.2", ttl=60)
OVER_IPV6 = IPv6(src="2001:db8:1::1", dst="2001:db8:2::2", hlim=60)
SEGMENT = inet.TCP(sport=40000, dport=80, seq=42) / Raw(bytes(100))
EXTENSIONS = [IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrFragment(m=1)]


def test_icmp_errors_are_what_scapy_understands():
    about = loaded(tcp_segment(IPV4_KEY, seq=42, flags=ACK, payload=bytes(1400)))
    data = icmp_error(about, 3, 4, source=bytes((10, 0, 9, 9)), value=1300)
    seen = IP(bytes(data))
    assert (seen.src, seen.dst, seen[inet.ICMP].nexthopmtu) == ("10.0.9.9", "10.0.1.1", 1300)
    assert len(data) == 576 and checksums_are_right(data)
    about = loaded(tcp_segment(IPV6_KEY, seq=42, flags=ACK, payload=bytes(1400)))
    data = icmp_error(about, 2, 0, source=IPV6_KEY[16:32], value=1300)
    seen = IPv6(bytes(data))
    assert seen.dst == "2001:db8:1::1" and seen[ICMPv6PacketTooBig].mtu == 1300
    assert len(data) == 1280 and checksums_are_right(data)


@pytest.mark.parametrize("key", [IPV4_KEY, IPV6_KEY])
def test_what_an_icmp_error_quotes(key):
    about = loaded(tcp_segment(key, seq=42, flags=ACK, payload=bytes(100)))
    source = key[4:8] if key is IPV4_KEY else key[16:32]
    kind = 3 if key is IPV4_KEY else 1
    packet = loaded(icmp_error(about, kind, 1, source=source))
    assert packet.protocol == (ICMP if key is IPV4_KEY else ICMPV6)
    quoted = quoted_segment(packet)
    assert quoted is not None and (quoted.key, quoted.seq(packet)) == (key, 42)
    assert struct.unpack_from("!I", packet.buffer, quoted.seq_at)[0] == 42
    echo = loaded(icmp_error(about, 8 if key is IPV4_KEY else 128, 0, source=source))
    assert quoted_segment(echo) is None


def test_what_quotes_no_tcp_segment():
    udp = loaded(bytes(OVER_IPV4 / UDP(sport=1, dport=2) / Raw(bytes(20))))
    assert udp.protocol == UDP_NUMBER
    assert quoted_segment(loaded(icmp_error(udp, 3, 1, source=b"\x0a\0\0\1"))) is None
    whole = icmp_error(loaded(tcp_segment(IPV4_KEY, seq=1, flags=ACK)), 3, 1, source=bytes(4))
    for length in range(28, 20 + 8 + 20 + 8):
        struct.pack_into("!H", whole, 2, length)
        assert quoted_segment(loaded(whole)) is None
    later = bytearray(whole)
    struct.pack_into("!H", later, 2, len(later))
    assert quoted_segment(loaded(later)) is not None
    later[28 + 7] = 1  # a later fragment has no ports
    assert quoted_segment(loaded(later)) is None


@pytest.mark.parametrize("extension", EXTENSIONS, ids=lambda one: type(one).__name__)
def test_a_quote_is_found_behind_extension_headers(extension):
    about = loaded(bytes(OVER_IPV6 / extension / SEGMENT))
    error = loaded(icmp_error(about, 2, 0, source=bytes(16), value=1300))
    quote = quoted_segment(error)
    assert quote is not None
    assert (quote.key, quote.seq(error)) == (IPV6_KEY, 42)


def test_the_header_of_a_quote_is_of_the_version_of_the_error():
    data = bytearray(icmp_error(loaded(bytes(OVER_IPV4 / SEGMENT)), 3, 1, source=bytes(4)))
    data[28:] = bytes(OVER_IPV6 / SEGMENT)
    struct.pack_into("!H", data, 2, len(data))
    assert quoted_packet(loaded(data)) is None


FIRST = [IPv6ExtHdrFragment(m=1)]
LATER = [IPv6ExtHdrFragment(m=1, offset=20)]


def chained(*layers: Layer) -> bytes:
    whole = OVER_IPV6
    for layer in layers:
        whole = whole / layer
    return bytes(whole)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (bytes(OVER_IPV4 / SEGMENT), True),
        (bytes(OVER_IPV4 / inet.ICMP()), True),
        (bytes(OVER_IPV4 / inet.ICMP(type=3)), False),
        (bytes(IP(flags="MF", dst="10.0.2.2", src="10.0.1.1") / inet.ICMP()), True),
        (bytes(IP(flags="MF", dst="10.0.2.2", src="10.0.1.1") / inet.ICMP(type=11)), False),
        (bytes(IP(frag=3, dst="10.0.2.2", src="10.0.1.1") / SEGMENT), False),
        (bytes(IP(src="10.0.1.1", dst="224.0.0.5") / SEGMENT), False),
        (bytes(IP(src="0.0.0.0", dst="10.0.2.2") / SEGMENT), False),
        (chained(SEGMENT), True),
        (chained(ICMPv6EchoRequest()), True),
        (chained(ICMPv6DestUnreach()), False),
        (chained(ICMPv6ND_Redirect()), False),
        (chained(IPv6ExtHdrHopByHop(), ICMPv6DestUnreach()), False),
        (chained(*FIRST, SEGMENT), True),
        (chained(*FIRST, ICMPv6DestUnreach()), False),
        (chained(*LATER, SEGMENT), False),
        (chained(IPv6ExtHdrHopByHop(), *LATER, SEGMENT), False),
        (chained(IPv6ExtHdrDestOpt(), IPv6ExtHdrHopByHop(), *LATER, SEGMENT), False),
        (chained(IPv6ExtHdrHopByHop(), *FIRST, SEGMENT), True),
        (bytes(IPv6(src="2001:db8::1", dst="ff02::1") / SEGMENT), False),
    ],
)
def test_whom_an_error_is_sent(data, told):
    error = error_about(loaded(data), TOO_BIG, 1280)
    assert (error is not None) is told
    if error is not None:
        assert checksums_are_right(error)


@given(
    st.sampled_from([IPV4_KEY, IPV6_KEY]),
    st.booleans(),
    st.integers(0, 26).map(lambda words: 2 * words),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=2, max_size=2),
)
def test_a_translated_quote_is_that_of_the_translated_packet(key, destination, cut, address, port):
    """Also where it is cut off, so that its checksum may not be there."""
    width = 4 if key is IPV4_KEY else 16
    address = address[:width]
    at = width if destination else 0
    other = bytearray(key)
    other[at : at + width] = address
    ports = 2 * width + (2 if destination else 0)
    other[ports : ports + 2] = port
    errors = []
    for one in (key, bytes(other)):
        about = loaded(tcp_segment(one, seq=42, flags=ACK, payload=bytes(40)))
        about.end -= cut
        errors.append(loaded(icmp_error(about, 3, 1, source=bytes(width))))
    error, expected = errors
    quote = quoted_packet(error)
    assert quote is not None and quote.protocol == TCP
    translate_quote(error, quote, address=address, port=port, destination=destination)
    start = error.transport + 8
    assert checksums_are_right(error.buffer)
    assert error.buffer[start:] == expected.buffer[start:]


@given(st.sampled_from([IPV4_KEY, IPV6_KEY]), st.binary(max_size=80))
def test_no_quote_is_too_odd(key, quoted):
    about = loaded(tcp_segment(key, seq=42, flags=ACK, payload=bytes(40)))
    about.buffer[: len(quoted)] = quoted
    about.end = len(quoted)
    error = loaded(icmp_error(about, 3, 1, source=bytes(4 if key is IPV4_KEY else 16)))
    quote = quoted_packet(error)
    assert quote is None or quote.transport + 8 <= error.end


def test_the_mtu_that_an_error_tells():
    for key, kind, code, told in (
        (IPV4_KEY, 3, 4, 1300),
        (IPV4_KEY, 3, 1, None),
        (IPV4_KEY, 4, 0, None),
        (IPV6_KEY, 2, 0, 1300),
        (IPV6_KEY, 1, 0, None),
    ):
        about = loaded(tcp_segment(key, seq=42, flags=ACK))
        source = bytes(4 if key is IPV4_KEY else 16)
        assert mtu_told(loaded(icmp_error(about, kind, code, source=source, value=1300))) == told
