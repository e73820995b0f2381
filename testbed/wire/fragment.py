"""One fragment of an IPv4 or IPv6 datagram, read from its headers (RFC 791, RFC 8200)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from testbed.wire.packet import ICMP, ICMPV6, TCP, UDP, Packet

LARGEST: Final = 65535  # of an IPv4 datagram, and of what follows an IPv6 header (no jumbograms)

_IPV6_HEADER: Final = 40
_FRAGMENT: Final = 44
_AUTHENTICATION: Final = 51
_UNFRAGMENTABLE: Final = frozenset({0, 43, 60})  # hop-by-hop, routing, destination options
_EXTENSIONS: Final = _UNFRAGMENTABLE | {_AUTHENTICATION, 135, 139, 140}
_MAX_EXTENSIONS: Final = 16
_LEAST_TRANSPORT: Final = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}
_u16 = struct.Struct("!H").unpack_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """A piece of a datagram.

    key: the same for all pieces of one datagram, and for no others. at: where its data begins in
    the packet. offset, size: of its data in the datagram, in bytes; more: whether there is more
    behind it. before: bytes of headers that the whole datagram has in front of its data, without
    a fixed IPv6 header, which its length field does not count. protocol: what the data begins
    with at offset 0.
    """

    key: bytes
    at: int
    offset: int
    size: int
    more: bool
    before: int
    protocol: int

    @property
    def end(self) -> int:
        return self.offset + self.size

    @property
    def is_malformed(self) -> bool:
        """No data, or data that nothing can follow (RFC 8200 section 4.5)."""
        return self.size == 0 or (self.more and self.size % 8 != 0)

    @property
    def is_oversize(self) -> bool:
        """Whether the datagram would be longer than one can be: the ping of death."""
        return self.before + self.end > LARGEST


def fragment_of(packet: Packet) -> Fragment | None:
    """The packet as a fragment; None where it is none, or cannot be read as one."""
    return _of_ipv4(packet) if packet.version == 4 else _of_ipv6(packet)


def _of_ipv4(packet: Packet) -> Fragment | None:
    buffer, at = packet.buffer, packet.transport
    (field,) = _u16(buffer, 6)
    if not field & 0x3FFF:
        return None
    return Fragment(
        key=bytes(buffer[12:20] + buffer[4:6] + buffer[9:10]),  # RFC 791 section 3.2
        at=at,
        offset=(field & 0x1FFF) << 3,
        size=packet.end - at,
        more=bool(field & 0x2000),
        before=at,
        protocol=buffer[9],
    )


def _of_ipv6(packet: Packet) -> Fragment | None:
    buffer, end = packet.buffer, packet.end
    protocol, at = buffer[6], _IPV6_HEADER
    for _ in range(_MAX_EXTENSIONS):
        if at + 8 > end:
            return None
        if protocol == _FRAGMENT:
            break
        if protocol not in _UNFRAGMENTABLE:
            return None
        protocol, at = buffer[at], at + (buffer[at + 1] + 1 << 3)
    else:
        return None
    (field,) = _u16(buffer, at + 2)
    if not field & 0xFFF9:
        return None
    return Fragment(
        key=bytes(buffer[8:40] + buffer[at + 4 : at + 8]),  # RFC 8200 section 4.5
        at=at + 8,
        offset=field & 0xFFF8,
        size=end - at - 8,
        more=bool(field & 1),
        before=at - _IPV6_HEADER,
        protocol=buffer[at],
    )


def holds_all_headers(packet: Packet, fragment: Fragment) -> bool:
    """Whether a first fragment tells what the datagram is about (RFC 1858, RFC 7112).

    TCP options count as headers: a filter that wants to see them must not be outwitted either.
    """
    buffer, end = packet.buffer, packet.end
    protocol, at = fragment.protocol, fragment.at
    if packet.version == 6:
        for _ in range(_MAX_EXTENSIONS):
            if protocol not in _EXTENSIONS:
                break
            if at + 8 > end:
                return False
            units = buffer[at + 1]
            size = (units + 2 << 2) if protocol == _AUTHENTICATION else (units + 1 << 3)
            protocol, at = buffer[at], at + size
        else:
            return False
    if at + _LEAST_TRANSPORT.get(protocol, 0) > end:
        return False
    return protocol != TCP or at + (buffer[at + 12] >> 4 << 2) <= end
