"""Finding headers in frames, whatever comes."""

from __future__ import annotations

import pytest
from emulator_frames import UNICAST, ethernet, internet_checksum, ipv4, ipv6, tcp
from hypothesis import given
from hypothesis import strategies as st

from testbed.emulator.elements.ecn import marked
from testbed.wire.frame import Headers

VLAN = b"\x81\x00\x00\x07"
QINQ = b"\x88\xa8\x00\x09"
OPTIONS = b"\x01\x01\x01\x00"


@pytest.mark.parametrize("tags", [b"", VLAN, QINQ + VLAN])
@pytest.mark.parametrize("options", [b"", OPTIONS, OPTIONS * 10])
def test_tcp_over_ipv4_behind_any_tags(tags, options):
    frame = ethernet(ipv4(tcp(payload=b"hello", options=options)), tags=tags) + b"padding"
    headers = Headers.of(frame)
    assert headers is not None
    assert headers.is_tcp
    assert frame[headers.payload : headers.end] == b"hello"
    assert headers.network == 14 + len(tags)
    assert headers.transport == headers.network + 20


def test_ipv4_options_are_skipped():
    packet = bytearray(ipv4(b"\1" * 8 + tcp(payload=b"data")))
    packet[0] = 0x47
    frame = ethernet(bytes(packet))
    headers = Headers.of(frame)
    assert headers is not None
    assert frame[headers.payload : headers.end] == b"data"


@pytest.mark.parametrize("extension", [0, 43, 60])
def test_ipv6_extension_headers_are_skipped(extension):
    inner = bytes([6, 1]) + bytes(14) + tcp(payload=b"data")
    frame = ethernet(ipv6(inner, next_header=extension))
    headers = Headers.of(frame)
    assert headers is not None
    assert headers.is_tcp
    assert frame[headers.payload : headers.end] == b"data"


def test_a_later_fragment_has_no_transport_header():
    packet = bytearray(ipv4(tcp(payload=b"data")))
    packet[7] = 5
    headers = Headers.of(ethernet(bytes(packet)))
    assert headers is not None
    assert not headers.is_tcp
    fragment = bytes([6, 0, 0, 8, 0, 0, 0, 1]) + tcp(payload=b"data")
    headers = Headers.of(ethernet(ipv6(fragment, next_header=44)))
    assert headers is not None
    assert not headers.is_tcp


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
        ethernet(ipv6(bytes([0, 255, 0, 0]), next_header=0)),
    ],
)
def test_what_is_no_whole_ip_packet_has_no_headers(frame):
    assert Headers.of(frame) is None


def test_a_bad_tcp_header_length_is_no_tcp():
    for words in (0, 4, 15):
        packet = bytearray(tcp(payload=b"x"))
        packet[12] = words << 4
        headers = Headers.of(ethernet(ipv4(bytes(packet))))
        assert headers is not None
        assert not headers.is_tcp


def whole_frames() -> st.SearchStrategy[bytes]:
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


@given(st.one_of(st.binary(max_size=200), whole_frames()))
def test_offsets_are_inside_the_frame_and_in_order(frame):
    headers = Headers.of(frame)
    if headers is not None:
        assert 14 <= headers.network < headers.transport <= headers.payload <= headers.end
        assert headers.end <= len(frame)
    changed = marked(frame)
    if changed is not None:
        assert len(changed) == len(frame)


@pytest.mark.parametrize("codepoint", [1, 2, 3])
@pytest.mark.parametrize("dscp", [0, 0b101110])
def test_marking_sets_congestion_experienced_and_mends_the_checksum(codepoint, dscp):
    frame = ethernet(ipv4(tcp(), tos=dscp << 2 | codepoint))
    changed = marked(frame)
    assert changed is not None
    assert changed[15] == dscp << 2 | 3
    assert internet_checksum(changed[14:34]) == 0
    assert changed[34:] == frame[34:]


def test_marking_ipv6_sets_the_traffic_class():
    frame = ethernet(ipv6(tcp(), traffic_class=0b10111010))
    changed = marked(frame)
    assert changed is not None
    assert changed[14:18] == (6 << 28 | 0b10111011 << 20).to_bytes(4, "big")
    assert changed[18:] == frame[18:]


@pytest.mark.parametrize("frame", [ethernet(ipv4(tcp())), ethernet(ipv6(tcp())), UNICAST, b""])
def test_what_is_not_ecn_capable_cannot_be_marked(frame):
    assert marked(frame) is None
