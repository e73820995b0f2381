"""Packets that a middlebox makes itself.

A `key` is source address, destination address, source port and destination port in one piece, as
`Packet.key` has it: 12 bytes for IPv4, 36 for IPv6.
"""

from __future__ import annotations

import struct
from typing import Final

from testbed.wire.checksum import internet_checksum, transport_checksum
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.ip import TCP
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import Packet, reverse_key
from testbed.wire.sequence import MODULUS

HOP_LIMIT: Final = 64

_tcp_header = struct.Struct("!4sIIBBHHH")
_ipv4_header = struct.Struct("!BBHHHBBH8s")
_ipv6_header = struct.Struct("!IHBB32s")
_u16 = struct.Struct("!H")


def tcp_segment(
    key: bytes,
    *,
    seq: int,
    ack: int = 0,
    flags: int,
    window: int = 0,
    urgent: int = 0,
    options: bytes = b"",
    payload: bytes = b"",
    identification: int = 0,
) -> bytearray:
    """A whole IP packet with one TCP segment; `options` must be a multiple of four bytes."""
    size = 20 + len(options)
    segment = bytearray(
        _tcp_header.pack(
            key[-4:], seq % MODULUS, ack % MODULUS, size << 2, flags, window, 0, urgent
        )
        + options
        + payload
    )
    _u16.pack_into(segment, 16, transport_checksum(TCP, key[:-4], segment))
    return ip_packet(key[:-4], TCP, segment, identification)


def ip_packet(
    addresses: bytes, protocol: int, content: bytes | bytearray, identification: int = 0
) -> bytearray:
    """An IP packet that may not be fragmented. addresses: source and destination.

    identification: of IPv4; a packet that is not fragmented needs none (RFC 6864 section 4.1).
    """
    if len(addresses) == 8:
        header = bytearray(
            _ipv4_header.pack(
                *(0x45, 0, 20 + len(content), identification, 0x4000, HOP_LIMIT, protocol, 0),
                addresses,
            )
        )
        _u16.pack_into(header, 10, internet_checksum(header))
        return header + content
    return bytearray(
        _ipv6_header.pack(6 << 28, len(content), protocol, HOP_LIMIT, addresses) + content
    )


def syn(key: bytes, *, seq: int, window: int, options: HandshakeOptions) -> bytearray:
    """The segment that opens a connection."""
    return tcp_segment(key, seq=seq, flags=SYN, window=window, options=options.encode())


def syn_ack(key: bytes, *, seq: int, ack: int, window: int, options: HandshakeOptions) -> bytearray:
    """The answer to a SYN."""
    return tcp_segment(
        key, seq=seq, ack=ack, flags=SYN | ACK, window=window, options=options.encode()
    )


def bare_ack(
    key: bytes, *, seq: int, ack: int, window: int, timestamps: tuple[int, int] | None = None
) -> bytearray:
    """An acknowledgement without data; `window` as it stands in the header."""
    options = HandshakeOptions(timestamps=timestamps).encode()
    return tcp_segment(key, seq=seq, ack=ack, flags=ACK, window=window, options=options)


def reset(key: bytes, *, seq: int, ack: int | None = None) -> bytearray:
    """A RST, with an acknowledgement where `ack` is given."""
    return tcp_segment(key, seq=seq, ack=ack or 0, flags=RST if ack is None else RST | ACK)


def reset_for(packet: Packet) -> bytearray:
    """The RST with which a host answers a segment of no connection (RFC 9293 section 3.10.7.1)."""
    key = reverse_key(packet.key)
    if packet.flags & ACK:
        return reset(key, seq=packet.ack)
    flags = packet.flags
    consumed = packet.end - packet.payload + bool(flags & SYN) + bool(flags & FIN)
    return reset(key, seq=0, ack=(packet.seq + consumed) % MODULUS)
