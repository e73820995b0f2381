"""The packet that an ICMP error quotes, as offsets, and how to translate it (RFC 5508 section 4).

Unlike a whole packet, a quote may be cut off anywhere behind the first 8 bytes of its transport
header, so that its checksum cannot be checked and may not even be there.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from testbed.wire.packet import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Packet,
    adjust_checksum,
    ones_complement_sum,
)

ECHO_TYPES: Final = {ICMP: (8, 0), ICMPV6: (128, 129)}  # request, reply

_ERRORS: Final = frozenset({3, 4, 5, 11, 12})  # RFC 792
_LAST_ICMPV6_ERROR: Final = 127  # RFC 4443 section 2.1
_CHECKSUM_AT: Final = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}

_u16 = struct.Struct("!H")


class Quote(msgspec.Struct, frozen=True):
    """One quoted packet of TCP, UDP or ICMP echo.

    protocol: its own. key: source, destination and both ports as in `Packet.key`; an ICMP
    identifier stands for both ports. start, transport: where its IP and transport headers begin.
    """

    protocol: int
    key: bytes
    start: int
    transport: int


def is_icmp_error(packet: Packet) -> bool:
    """Whether an ICMP or ICMPv6 packet reports an error about another packet."""
    kind = packet.buffer[packet.transport]
    return kind in _ERRORS if packet.version == 4 else kind <= _LAST_ICMPV6_ERROR


def quoted_packet(packet: Packet) -> Quote | None:
    """What an ICMP error quotes; None where that is not the beginning of a usable packet."""
    buffer, start, end = packet.buffer, packet.transport + 8, packet.end
    if packet.version == 4:
        if start + 20 > end or buffer[start] >> 4 != 4:
            return None
        transport = start + ((buffer[start] & 0x0F) << 2)
        protocol = buffer[start + 9]
        if transport < start + 20 or _u16.unpack_from(buffer, start + 6)[0] & 0x1FFF:
            return None
        addresses = buffer[start + 12 : start + 20]
    else:
        transport = start + 40  # extension headers are not followed
        if transport > end or buffer[start] >> 4 != 6:
            return None
        protocol = buffer[start + 6]
        addresses = buffer[start + 8 : start + 40]
    if transport + 8 > end:
        return None
    if protocol in (TCP, UDP):
        ports = buffer[transport : transport + 4]
    elif protocol == packet.protocol and buffer[transport] in ECHO_TYPES[protocol]:
        ports = buffer[transport + 4 : transport + 6] * 2
    else:
        return None
    return Quote(protocol, bytes(addresses + ports), start, transport)


def translate_quote(
    packet: Packet, quote: Quote, *, address: bytes, port: bytes, destination: bool
) -> None:
    """Put another source (or destination) into a quote; all checksums follow (RFC 1624)."""
    buffer, end = packet.buffer, packet.end
    before = ones_complement_sum(buffer[quote.start : end])
    width = len(address)
    at = quote.start + (12 if width == 4 else 8) + (width if destination else 0)
    delta_address = _difference(address, buffer[at : at + width])
    buffer[at : at + width] = address
    if width == 4:
        adjust_checksum(buffer, quote.start + 10, delta_address)
    is_echo = quote.protocol not in (TCP, UDP)
    at = quote.transport + (4 if is_echo else 2 if destination else 0)
    delta = _difference(port, buffer[at : at + 2])
    buffer[at : at + 2] = port
    if quote.protocol != ICMP:
        delta += delta_address
    at = quote.transport + _CHECKSUM_AT[quote.protocol]
    if at + 2 <= end and not (quote.protocol == UDP and buffer[at : at + 2] == b"\0\0"):
        adjust_checksum(buffer, at, delta)
    after = ones_complement_sum(buffer[quote.start : end])
    adjust_checksum(buffer, packet.checksum_at, after - before)


def _difference(new: bytes, old: bytes | bytearray) -> int:
    return int.from_bytes(new, "big") - int.from_bytes(old, "big")
