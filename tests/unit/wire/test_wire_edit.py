"""Changes in place: at every position the checksum follows, and a wrong one stays wrong."""

from __future__ import annotations

import pytest
from packet_bench import IPV4_KEY, IPV6_KEY, checksums_are_right, loaded

from testbed.wire.craft import tcp_segment
from testbed.wire.edit import blank_option, overwrite, set_traffic_class, traffic_class
from testbed.wire.flags import ACK

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
    kinds = list(packet.walk_options())
    blank_option(packet, kinds[0][1], kinds[0][2])
    assert list(packet.walk_options()) == kinds[1:]
    assert checksums_are_right(packet.buffer)


@KEYS
def test_the_traffic_class_is_read_and_set_and_nothing_else_changed(key):
    packet = loaded(segment(key))
    before = bytes(packet.buffer)
    assert traffic_class(packet.buffer) == 0
    for value in (0xFF, 0x02, 0xB8, 0x00):
        set_traffic_class(packet.buffer, value)
        assert traffic_class(packet.buffer) == value
        assert checksums_are_right(packet.buffer)
    assert bytes(packet.buffer) == before


def test_the_flow_label_survives():
    packet = loaded(segment(IPV6_KEY))
    packet.buffer[1:4] = b"\x0f\xab\xcd"
    set_traffic_class(packet.buffer, 0xFF)
    assert packet.buffer[:4] == b"\x6f\xff\xab\xcd"
