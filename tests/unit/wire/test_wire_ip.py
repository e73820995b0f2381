"""IP headers beside scapy: options, every extension header, fragments; and damage of any kind."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import inet
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.packet import Packet, Raw

from testbed.wire.ip import (
    EXTENSION_HEADERS,
    FRAGMENT_HEADER,
    MOST_EXTENSION_HEADERS,
    OPAQUE,
    TCP,
    payload_of,
    read_ip,
)

SEGMENT = inet.TCP(sport=40000, dport=80, seq=7) / Raw(b"payload")
PLAIN = b"\x06\x00" + bytes(6)  # an extension header of 8 bytes before TCP


def over_ipv6(*headers: bytes, kind: int, fixed: bytes = b"") -> bytes:
    content = b"".join(headers) + bytes(SEGMENT)
    return struct.pack("!IHBB", 6 << 28, len(content), kind, 64) + bytes(32) + content


@pytest.mark.parametrize("kind", sorted(EXTENSION_HEADERS - {FRAGMENT_HEADER}))
def test_every_extension_header_is_stepped_over(kind):
    size = 8 if kind == 51 else 16  # of the second word's length 1: in words of 4, or of 8 bytes
    header = bytes((6, 0 if kind == 51 else 1)) + bytes(size - 2)
    data = over_ipv6(header, kind=kind)
    headers = read_ip(data, 0, len(data))
    assert headers is not None
    assert (headers.protocol, headers.transport) == (TCP, 40 + size)
    assert data[payload_of(data, headers) : headers.end] == b"payload"


EXTENSIONS = st.sampled_from(
    [
        IPv6ExtHdrHopByHop(),
        IPv6ExtHdrDestOpt(),
        IPv6ExtHdrRouting(segleft=0),
        IPv6ExtHdrFragment(m=0, offset=0),
        AH(payloadlen=4, spi=1, seq=1, icv=bytes(12)),
    ]
)


NUMBERS = {
    IPv6ExtHdrHopByHop: 0,
    IPv6ExtHdrRouting: 43,
    IPv6ExtHdrFragment: 44,
    AH: 51,
    IPv6ExtHdrDestOpt: 60,
    inet.TCP: 6,
}


def stacked(layers: list[Packet]) -> Packet:
    """Over IPv6, each naming the next, which scapy leaves to the author after AH."""
    whole = IPv6(src="2001:db8::1", dst="2001:db8::2")
    whole.nh = NUMBERS[type(layers[0])]
    for number, layer in enumerate(layers, 1):
        whole = whole / layer.copy()
        if number < len(layers):
            whole.lastlayer().nh = NUMBERS[type(layers[number])]
    return whole


@given(st.lists(EXTENSIONS, max_size=5), st.binary(max_size=30))
def test_any_chain_ends_where_scapy_ends_it(chain, padding):
    data = bytes(stacked([*chain, SEGMENT]))
    headers = read_ip(data + padding, 0, len(data + padding))
    assert headers is not None
    assert (headers.protocol, headers.end) == (TCP, len(data))
    assert headers.transport == len(data) - len(SEGMENT)
    assert not headers.is_fragment and not headers.routed


@given(st.binary(max_size=40).filter(lambda options: len(options) % 4 == 0), st.integers(0, 9))
def test_ipv4_options_are_stepped_over(options, start):
    packet = IP(src="10.0.0.1", dst="10.0.0.2", options=[Raw(options)]) / SEGMENT
    data = bytes(start) + bytes(packet)
    headers = read_ip(data, start, len(data))
    assert headers is not None
    assert (headers.start, headers.end, headers.protocol) == (start, len(data), TCP)
    assert headers.transport == len(data) - len(SEGMENT)


@pytest.mark.parametrize("offset", [0, 3, 8191])
@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("before", [[], [IPv6ExtHdrHopByHop()], [IPv6ExtHdrRouting(segleft=1)]])
def test_fragments_are_found_behind_other_headers(offset, more, before):
    data = bytes(stacked([*before, IPv6ExtHdrFragment(m=more, offset=offset), SEGMENT]))
    headers = read_ip(data, 0, len(data))
    assert headers is not None
    assert (headers.offset, headers.more) == (8 * offset, more)
    assert headers.fragment_header == len(data) - len(SEGMENT) - 8
    assert (headers.protocol, headers.transport) == (TCP, len(data) - len(SEGMENT))
    assert headers.routed == any(isinstance(layer, IPv6ExtHdrRouting) for layer in before)
    data = bytes(IP(flags="MF" if more else 0, frag=offset) / SEGMENT)
    headers = read_ip(data, 0, len(data))
    assert headers is not None
    assert (headers.offset, headers.more) == (8 * offset, more)
    assert (payload_of(data, headers) == 20) is (offset > 0)


def test_the_data_of_a_later_fragment_is_not_read_as_headers():
    fragment = bytes((60, 0)) + (8).to_bytes(2, "big") + bytes(4)  # destination options come next
    data = over_ipv6(fragment, PLAIN, kind=FRAGMENT_HEADER)
    headers = read_ip(data, 0, len(data))
    assert headers is not None
    assert (headers.protocol, headers.transport, headers.offset) == (60, 48, 8)


def test_a_chain_that_is_cut_off_or_too_long_leads_nowhere():
    for data in (
        over_ipv6(bytes((6, 255)) + bytes(6), kind=0),
        over_ipv6(*[b"\x3c\x00" + bytes(6)] * MOST_EXTENSION_HEADERS, PLAIN, kind=60),
    ):
        headers = read_ip(data, 0, len(data))
        assert headers is not None and headers.protocol == OPAQUE
        assert headers.transport <= headers.end
    longest = [b"\x3c\x00" + bytes(6)] * (MOST_EXTENSION_HEADERS - 1) + [PLAIN]
    data = over_ipv6(*longest, kind=60)
    headers = read_ip(data, 0, len(data))
    assert headers is not None and headers.protocol == TCP


def test_lengths_of_zero_are_told_apart():
    """Segmentation offload and jumbograms have no room for their length."""
    data = bytearray(bytes(IP() / SEGMENT))
    data[2:4] = b"\0\0"
    headers = read_ip(data, 0, len(data))
    assert headers is not None and headers.end == headers.start
    data = bytearray(over_ipv6(PLAIN, kind=0))
    data[4:6] = b"\0\0"
    headers = read_ip(data, 0, len(data))
    assert headers is not None
    assert (headers.end, headers.protocol, headers.transport) == (40, TCP, 48)


GOOD = [
    bytes(IP(options=[Raw(b"\x94\x04\0\0")]) / SEGMENT),
    bytes(IP(flags="MF", frag=2) / UDP()),
    bytes(stacked([IPv6ExtHdrHopByHop(), IPv6ExtHdrFragment(m=1), IPv6ExtHdrDestOpt(), SEGMENT])),
    bytes(stacked([IPv6ExtHdrRouting(segleft=1), AH(payloadlen=4, icv=bytes(12)), SEGMENT])),
]


@given(
    st.one_of(st.binary(max_size=100), st.sampled_from(GOOD)),
    st.dictionaries(st.integers(0, 90), st.integers(0, 255), max_size=4),
    st.integers(0, 10),
    st.integers(0, 120),
)
def test_nothing_is_read_beyond_what_is_there(data, damages, start, stop):
    damaged = bytearray(bytes(start) + data)
    for at, value in damages.items():
        if start + at < len(damaged):
            damaged[start + at] = value
    del damaged[stop:]
    headers = read_ip(damaged, start, len(damaged))
    if headers is not None:
        assert start < headers.transport <= len(damaged)
        assert headers.fragment_header < headers.transport
        if headers.end <= len(damaged):
            assert headers.transport <= payload_of(damaged, headers)
