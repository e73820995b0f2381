"""From frames to IP packets, whatever comes."""

from __future__ import annotations

import pytest
from emulator_frames import UNICAST, ethernet, ipv4, ipv6, tcp
from hypothesis import given
from hypothesis import strategies as st

from testbed.wire.frame import (
    ETHERNET,
    IPV4,
    LINUX_SLL,
    LINUX_SLL2,
    MOST_TAGS,
    NO_TYPE,
    VLAN_TYPES,
    ip_of_frame,
    network_layer,
)
from testbed.wire.ip import TCP, payload_of

VLAN = b"\x81\x00\x00\x07"
QINQ = b"\x88\xa8\x00\x09"
OPTIONS = b"\x01\x01\x01\x00"


@pytest.mark.parametrize("tags", [b"", VLAN, QINQ + VLAN, VLAN * MOST_TAGS])
@pytest.mark.parametrize("options", [b"", OPTIONS, OPTIONS * 10])
def test_tcp_over_ipv4_behind_any_tags(tags, options):
    frame = ethernet(ipv4(tcp(payload=b"hello", options=options)), tags=tags) + b"padding"
    headers = ip_of_frame(frame)
    assert headers is not None and headers.protocol == TCP
    assert frame[payload_of(frame, headers) : headers.end] == b"hello"
    assert headers.start == 14 + len(tags)
    assert headers.transport == headers.start + 20


@pytest.mark.parametrize("kind", sorted(VLAN_TYPES))
def test_every_kind_of_tag_is_stepped_over_on_every_link_type_that_has_them(kind):
    tag = kind.to_bytes(2, "big") + b"\0\7"
    rest = tag[2:] + b"\x08\x00" + ipv4(tcp())
    for link, head in (
        (ETHERNET, bytes(12) + tag[:2]),
        (LINUX_SLL, bytes(14) + tag[:2]),
        (LINUX_SLL2, tag[:2] + bytes(18)),
    ):
        frame = head + rest
        assert network_layer(frame, link, 0, len(frame)) == (IPV4, len(head) + 4)


def test_a_stack_of_tags_that_is_too_high_is_not_climbed():
    frame = ethernet(ipv4(tcp()), tags=VLAN * (MOST_TAGS + 1))
    assert network_layer(frame, ETHERNET, 0, len(frame)) is None


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0",
        UNICAST,
        UNICAST + b"\x08",
        UNICAST + b"\x08\x00",
        UNICAST + b"\x08\x06" + bytes(28),
        UNICAST + VLAN * 1000,
        ethernet(ipv4(tcp()))[:30],
        ethernet(ipv6(tcp()))[:50],
        UNICAST + b"\x08\x00" + b"\x41" + bytes(40),
        UNICAST + b"\x08\x00" + b"\x60" + bytes(60),
    ],
)
def test_what_holds_no_whole_ip_packet(frame):
    assert ip_of_frame(frame) is None


@pytest.mark.parametrize("words", [0, 4, 15])
def test_a_bad_tcp_header_length_leaves_no_header(words):
    packet = bytearray(tcp(payload=b"x"))
    packet[12] = words << 4
    frame = ethernet(ipv4(bytes(packet)))
    headers = ip_of_frame(frame)
    assert headers is not None and payload_of(frame, headers) == headers.transport


def test_an_unknown_link_type_and_family_have_no_type():
    assert network_layer(bytes(60), 9999, 0, 60) == (NO_TYPE, 0)
    assert network_layer(b"\x07\0\0\0", 0, 0, 4) == (NO_TYPE, 4)


def damaged_frames() -> st.SearchStrategy[bytes]:
    """Frames that are nearly right, cut and overwritten anywhere."""
    good = st.sampled_from(
        [
            ethernet(ipv4(tcp(payload=b"data"))),
            ethernet(ipv6(tcp(payload=b"data"))),
            ethernet(ipv6(bytes([6, 0]) + bytes(6) + tcp(), next_header=0), tags=VLAN),
        ]
    )
    return st.builds(
        lambda frame, at, byte, end: (frame[:at] + bytes([byte]) + frame[at + 1 :])[:end],
        good,
        st.integers(0, 100),
        st.integers(0, 255),
        st.integers(0, 120),
    )


@given(st.one_of(st.binary(max_size=200), damaged_frames()))
def test_offsets_are_inside_the_frame_and_in_order(frame):
    headers = ip_of_frame(frame)
    if headers is not None:
        payload = payload_of(frame, headers)
        assert 14 <= headers.start < headers.transport <= payload <= headers.end <= len(frame)


@given(st.integers(0, 300), st.binary(max_size=120), st.integers(0, 20))
def test_no_link_type_reads_beyond_its_frame(link, data, start):
    found = network_layer(data, link, start, len(data))
    assert found is None or start <= found[1] <= max(start, len(data))
