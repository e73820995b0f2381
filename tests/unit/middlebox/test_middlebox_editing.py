"""Changes in place: at every position the checksum follows, and a wrong one stays wrong."""

from __future__ import annotations

import pytest
from box_bench import IPV4_KEY, IPV6_KEY, checksums_are_right, loaded

from testbed.middlebox.options import sides_of
from testbed.wire.edit import (
    blank_option,
    option_name,
    overwrite,
    set_traffic_class,
    traffic_class,
)
from testbed.wire.packet import ACK, INSIDE, OUTSIDE
from testbed.wire.segments import tcp_segment

KEYS = pytest.mark.parametrize("key", [IPV4_KEY, IPV6_KEY], ids=["ipv4", "ipv6"])


def segment(key: bytes, options: bytes = b"", payload: bytes = b"payload") -> bytearray:
    return tcp_segment(key, seq=7, ack=9, flags=ACK, window=99, options=options, payload=payload)


@KEYS
@pytest.mark.parametrize("distance", range(20, 28))
@pytest.mark.parametrize("new", [b"\xff", b"\x00\x00", b"abc", b"\xff" * 5, bytes(6)])
def test_the_checksum_follows_at_any_distance_and_length(key, distance, new):
    packet = loaded(segment(key, payload=bytes(range(200, 220))))
    at = packet.transport + distance
    overwrite(packet, at, new)
    assert packet.buffer[at : at + len(new)] == new
    assert checksums_are_right(packet.buffer)


def test_a_wrong_checksum_stays_wrong():
    packet = loaded(segment(IPV4_KEY))
    packet.buffer[packet.checksum_at] ^= 0x40
    overwrite(packet, packet.transport + 21, b"xyz")
    assert not checksums_are_right(packet.buffer)


@KEYS
def test_a_blanked_option_leaves_the_others_where_they_are(key):
    options = b"\x01\x03\x03\x07" + b"\x02\x04\x05\xb4"
    packet = loaded(segment(key, options))
    kinds = list(packet.tcp_options())
    blank_option(packet, kinds[0][1], kinds[0][2])
    assert list(packet.tcp_options()) == kinds[1:]
    assert checksums_are_right(packet.buffer)


@KEYS
def test_the_traffic_class_is_read_and_set_and_nothing_else_changed(key):
    packet = loaded(segment(key))
    before = bytes(packet.buffer)
    assert traffic_class(packet) == 0
    for value in (0xFF, 0x02, 0xB8, 0x00):
        set_traffic_class(packet, value)
        assert traffic_class(packet) == value
        assert checksums_are_right(packet.buffer)
    assert bytes(packet.buffer) == before


def test_the_flow_label_survives():
    packet = loaded(segment(IPV6_KEY))
    packet.buffer[1:4] = b"\x0f\xab\xcd"
    set_traffic_class(packet, 0xFF)
    assert packet.buffer[:4] == b"\x6f\xff\xab\xcd"


@pytest.mark.parametrize(
    ("option", "name"),
    [
        (b"\x02\x04\x05\xb4", "mss"),
        (b"\x03\x03\x07\x01", "window-scale"),
        (b"\x04\x02\x01\x01", "sack"),
        (b"\x05\x0a" + bytes(10), "sack"),
        (b"\x08\x0a" + bytes(10), "timestamps"),
        (b"\x22\x02\x01\x01", "tfo"),
        (b"\xfe\x04\xf9\x89", "tfo"),
        (b"\xfd\x04\xf9\x89", "tfo"),
        (b"\xfe\x04\x12\x34", "unknown"),
        (b"\xfe\x02\x01\x01", "unknown"),
        (b"\x1e\x04\x00\x00", "mptcp"),
        (b"\x13\x04\x00\x00", "unknown"),
    ],
)
def test_options_have_names(option, name):
    packet = loaded(segment(IPV4_KEY, option))
    assert option_name(packet, *next(packet.tcp_options())) == name


def test_directions_name_the_side_that_packets_come_from():
    assert sides_of("inward") == {OUTSIDE}
    assert sides_of("outward") == {INSIDE}
    assert sides_of("both") == {OUTSIDE, INSIDE}
