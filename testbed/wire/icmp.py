"""ICMP and ICMPv6 (RFC 792, RFC 4443): errors, what they quote, and how to make and translate one.

A quote may be cut off anywhere behind the first 8 bytes of its transport header, so that its
checksum cannot be checked and may not even be there.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import msgspec

from testbed.wire.checksum import (
    adjust_checksum,
    adjust_udp_checksum,
    ones_complement_sum,
    transport_checksum,
)
from testbed.wire.craft import ip_packet
from testbed.wire.edit import replace_bytes
from testbed.wire.ip import ICMP, ICMPV6, TCP, UDP, IpHeaders, read_ip
from testbed.wire.packet import CHECKSUM_AT, Packet

ECHO_TYPES: Final = {ICMP: (8, 0), ICMPV6: (128, 129)}  # request, reply

_ERRORS: Final = {
    ICMP: frozenset({3, 4, 5, 11, 12}),
    ICMPV6: frozenset(range(128)),  # RFC 4443 section 2.1
}
_REDIRECT: Final = 137  # an informational message, but none that may be answered by an error
_QUOTED: Final = {ICMP: 548, ICMPV6: 1232}  # bytes; RFC 1812 4.3.2.3, RFC 4443 2.4 (c)


# Errors


class Reason(NamedTuple):
    """Type and code of an error, for each version of IP."""

    icmp: tuple[int, int]
    icmpv6: tuple[int, int]


TOO_BIG: Final = Reason((3, 4), (2, 0))  # RFC 1191, RFC 8201
PROHIBITED: Final = Reason((3, 13), (1, 1))  # RFC 1812 section 5.2.7.1, RFC 4443 section 3.1


def is_icmp_error(packet: Packet) -> bool:
    """Whether an ICMP or ICMPv6 packet reports an error about another packet."""
    return packet.buffer[packet.transport] in _ERRORS[packet.protocol]


def icmp_error(packet: Packet, kind: int, code: int, *, source: bytes, value: int = 0) -> bytearray:
    """An ICMP or ICMPv6 error about `packet`, to its sender, quoting as much as is allowed.

    source: the address it comes from, 4 or 16 bytes. value: the second word of the header, such
    as the next hop's MTU (RFC 1191 section 4, RFC 4443 section 3.2).
    """
    protocol = ICMP if packet.version == 4 else ICMPV6
    quoted = packet.buffer[: min(packet.end, _QUOTED[protocol])]
    addresses = source + (quoted[12:16] if packet.version == 4 else quoted[8:24])
    content = bytearray(struct.pack("!BBHI", kind, code, 0, value) + quoted)
    struct.pack_into("!H", content, 2, transport_checksum(protocol, addresses, content))
    return ip_packet(addresses, protocol, content)


def error_about(packet: Packet, reason: Reason, value: int = 0) -> bytearray | None:
    """The error for the sender of `packet`; None where none may be sent.

    None is sent about errors, fragments after the first, and what went to or came from many
    (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e)). It comes from the address that the
    packet was sent to, because the box has none of its own. value: as for `icmp_error`.
    """
    headers = packet.headers()
    if headers is None or headers.offset or _is_error(packet, headers):
        return None
    buffer = packet.buffer
    if packet.version == 4:
        source, destination = buffer[12:16], buffer[16:20]
        many = destination[0] >= 224 or source[0] >= 224 or not any(source)
    else:
        source, destination = buffer[8:24], buffer[24:40]
        many = destination[0] == 0xFF or source[0] == 0xFF or not any(source)
    if many:
        return None
    kind, code = reason.icmp if packet.version == 4 else reason.icmpv6
    return icmp_error(packet, kind, code, source=bytes(destination), value=value)


def _is_error(packet: Packet, headers: IpHeaders) -> bool:
    """Whether no error may be sent about it, because it is one; also of a first fragment."""
    errors = _ERRORS.get(headers.protocol)
    if errors is None or headers.transport >= headers.end:
        return False
    kind = packet.buffer[headers.transport]
    return kind in errors or (headers.protocol == ICMPV6 and kind == _REDIRECT)


def mtu_told(packet: Packet) -> int | None:
    """The next hop's MTU that Fragmentation Needed or Packet Too Big tells; None for others."""
    at = packet.transport
    said = tuple(packet.buffer[at : at + 2])
    if said != (TOO_BIG.icmp if packet.protocol == ICMP else TOO_BIG.icmpv6):
        return None
    return int.from_bytes(packet.buffer[at + (6 if packet.protocol == ICMP else 4) : at + 8], "big")


# Quotes


class Quote(msgspec.Struct, frozen=True):
    """One quoted packet of TCP, UDP or ICMP echo.

    protocol: its own.
    key: source, destination and both ports as in `Packet.key`; an ICMP identifier stands for both
    ports.
    start, transport: where its IP and transport headers begin.
    """

    protocol: int
    key: bytes
    start: int
    transport: int

    @property
    def seq_at(self) -> int:
        """Of a TCP segment: where its sequence number stands."""
        return self.transport + 4

    def seq(self, packet: Packet) -> int:
        """Of a TCP segment: its sequence number, read from the packet that quotes it."""
        return int.from_bytes(packet.buffer[self.seq_at : self.seq_at + 4], "big")


def quoted_packet(packet: Packet) -> Quote | None:
    """What an ICMP error quotes; None for what is no error, or quotes no usable packet."""
    if not is_icmp_error(packet):
        return None
    buffer, start, end = packet.buffer, packet.transport + 8, packet.end
    headers = read_ip(buffer, start, end)
    if headers is None or headers.version != packet.version or headers.offset:
        return None
    protocol, transport = headers.protocol, headers.transport
    if transport + 8 > end:
        return None
    if protocol in (TCP, UDP):
        ports = buffer[transport : transport + 4]
    elif protocol == packet.protocol and buffer[transport] in ECHO_TYPES[protocol]:
        ports = buffer[transport + 4 : transport + 6] * 2
    else:
        return None
    addresses = (
        buffer[start + 12 : start + 20] if packet.version == 4 else (buffer[start + 8 : start + 40])
    )
    return Quote(protocol, bytes(addresses + ports), start, transport)


def quoted_segment(packet: Packet) -> Quote | None:
    """The TCP segment that an ICMP error quotes; None where it quotes none."""
    quote = quoted_packet(packet)
    return quote if quote is not None and quote.protocol == TCP else None


def translate_quote(
    packet: Packet, quote: Quote, *, address: bytes, port: bytes, destination: bool
) -> None:
    """Put another source (or destination) into a quote (RFC 5508 section 4); checksums follow."""
    buffer, end = packet.buffer, packet.end
    before = ones_complement_sum(buffer[quote.start : end])
    width = len(address)
    at = quote.start + (12 if width == 4 else 8) + (width if destination else 0)
    address_delta = replace_bytes(buffer, at, address, quote.start)
    if width == 4:
        adjust_checksum(buffer, quote.start + 10, address_delta)
    is_echo = quote.protocol not in (TCP, UDP)
    at = quote.transport + (4 if is_echo else 2 if destination else 0)
    delta = replace_bytes(buffer, at, port, quote.transport)
    if quote.protocol != ICMP:
        delta += address_delta
    at = quote.transport + CHECKSUM_AT[quote.protocol]
    if at + 2 <= end:
        adjust = adjust_udp_checksum if quote.protocol == UDP else adjust_checksum
        adjust(buffer, at, delta)
    after = ones_complement_sum(buffer[quote.start : end])
    adjust_checksum(buffer, packet.checksum_at, after - before)
