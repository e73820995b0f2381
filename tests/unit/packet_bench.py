"""Flows to make packets of, and whether one is right, seen without the code under test."""

from __future__ import annotations

import struct

from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import OUTSIDE, Packet, Side

IPV4_KEY = bytes((10, 0, 1, 1, 10, 0, 2, 2)) + struct.pack("!HH", 40000, 80)
IPV6_KEY = (
    bytes.fromhex("20010db8000100000000000000000001")
    + bytes.fromhex("20010db8000200000000000000000002")
    + struct.pack("!HH", 40000, 80)
)
LINUX = HandshakeOptions(mss=1460, window_scale=7, sack=True, timestamps=(1000, 0))


def word_sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksums_are_right(data: bytes | bytearray) -> bool:
    """Whether the IP header's and the transport's checksum fit, word by word (RFC 1071)."""
    data = bytes(data)
    if data[0] >> 4 == 4:
        size = (data[0] & 15) * 4
        total = struct.unpack_from("!H", data, 2)[0]
        if word_sum(data[:size]) != 0xFFFF:
            return False
        addresses, protocol, content = data[12:20], data[9], data[size:total]
    else:
        total = 40 + struct.unpack_from("!H", data, 4)[0]
        addresses, protocol, content = data[8:40], data[6], data[40:total]
    pseudo = b"" if protocol == 1 else addresses + struct.pack("!II", len(content), protocol)
    return word_sum(pseudo + content) == 0xFFFF


def loaded(data: bytes | bytearray, side: Side = OUTSIDE) -> Packet:
    packet = Packet()
    assert packet.load(bytearray(data), len(data), side)
    return packet
