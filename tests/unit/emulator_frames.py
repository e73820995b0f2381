"""Frames made by hand, with checksums that are right."""

from __future__ import annotations

import ipaddress
import struct

UNICAST = bytes.fromhex("020000000002020000000001")
MULTICAST = bytes.fromhex("333300000001020000000001")


def internet_checksum(data: bytes) -> int:
    """RFC 1071; 0 over anything that contains its own right checksum."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(payload: bytes, protocol: int = 6, tos: int = 0, source: str = "10.0.0.1") -> bytes:
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        tos,
        20 + len(payload),
        1,
        0,
        64,
        protocol,
        0,
        ipaddress.ip_address(source).packed,
        ipaddress.ip_address("10.0.0.2").packed,
    )
    return header[:10] + struct.pack("!H", internet_checksum(header)) + header[12:] + payload


def ipv6(payload: bytes, next_header: int = 6, traffic_class: int = 0) -> bytes:
    return (
        struct.pack("!IHBB", 6 << 28 | traffic_class << 20, len(payload), next_header, 64)
        + ipaddress.ip_address("fd00::1").packed
        + ipaddress.ip_address("fd00::2").packed
        + payload
    )


def tcp(
    seq: int = 0, flags: int = 0x10, payload: bytes = b"", port: int = 40000, options: bytes = b""
) -> bytes:
    words = 5 + len(options) // 4
    header = struct.pack("!HHIIBBHHH", port, 80, seq % 2**32, 0, words << 4, flags, 1000, 0, 0)
    return header + options + payload


def ethernet(packet: bytes, addresses: bytes = UNICAST, tags: bytes = b"") -> bytes:
    kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
    return addresses + tags + kind + packet


def segment(
    seq: int = 0, flags: int = 0x10, payload: bytes = b"", port: int = 40000, version: int = 4
) -> bytes:
    """A whole frame with one TCP segment."""
    inner = tcp(seq, flags, payload, port)
    return ethernet(ipv4(inner) if version == 4 else ipv6(inner))
