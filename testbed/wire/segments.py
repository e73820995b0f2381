"""Packets that a middlebox makes itself.

A `key` is source address, destination address, source port and destination port in one piece, as
`Packet.key` has it: 12 bytes for IPv4, 36 for IPv6.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from testbed.wire.packet import (
    ACK,
    FIN,
    ICMP,
    ICMPV6,
    MSS,
    NOP,
    RST,
    SACK_PERMITTED,
    SYN,
    TCP,
    TIMESTAMPS,
    WINDOW_SCALE,
    Packet,
    ones_complement_sum,
)

MODULUS: Final = 1 << 32
MAX_WINDOW_SCALE: Final = 14  # RFC 7323 section 2.3
HOP_LIMIT: Final = 64
_QUOTED_IPV4: Final = 548  # RFC 1812 section 4.3.2.3: the error stays within 576 bytes
_QUOTED_IPV6: Final = 1232  # RFC 4443 section 2.4 (c): within 1280 bytes
_ICMP_ERRORS: Final = frozenset({3, 4, 5, 11, 12})  # RFC 792
_LAST_ICMPV6_ERROR: Final = 127  # RFC 4443 section 2.1

_tcp_header = struct.Struct("!4sIIBBHHH")
_ipv4_header = struct.Struct("!BBHHHBBH8s")
_ipv6_header = struct.Struct("!IHBB32s")
_u16 = struct.Struct("!H")
_u32 = struct.Struct("!I")
_u32_pair = struct.Struct("!II")


def reverse_key(key: bytes) -> bytes:
    """The key of a packet that goes the other way."""
    width = (len(key) - 4) // 2
    return key[width : 2 * width] + key[:width] + key[-2:] + key[-4:-2]


def address_length(key: bytes) -> int:
    """4 for IPv4, 16 for IPv6."""
    return (len(key) - 4) // 2


class HandshakeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a SYN or SYN/ACK that set up a connection; None where one is missing.

    timestamps: TSval and TSecr (RFC 7323 section 3). window_scale: at most 14.
    """

    mss: int | None = None
    window_scale: int | None = None
    sack: bool = False
    timestamps: tuple[int, int] | None = None

    @classmethod
    def of(cls, packet: Packet) -> HandshakeOptions:
        """Read them from a segment; an option of the wrong length counts as missing."""
        mss: int | None = None
        window_scale: int | None = None
        sack = False
        timestamps: tuple[int, int] | None = None
        buffer = packet.buffer
        for kind, at, size in packet.tcp_options():
            if kind == MSS and size == 4:
                (mss,) = _u16.unpack_from(buffer, at + 2)
            elif kind == WINDOW_SCALE and size == 3:
                window_scale = min(buffer[at + 2], MAX_WINDOW_SCALE)
            elif kind == SACK_PERMITTED and size == 2:
                sack = True
            elif kind == TIMESTAMPS and size == 10:
                timestamps = _u32_pair.unpack_from(buffer, at + 2)
        return cls(mss=mss, window_scale=window_scale, sack=sack, timestamps=timestamps)

    def encode(self) -> bytes:
        """Bytes for a TCP header, a multiple of four, in the order that Linux uses."""
        parts = []
        if self.mss is not None:
            parts.append(struct.pack("!BBH", MSS, 4, self.mss))
        if self.timestamps is not None:
            lead = (SACK_PERMITTED, 2) if self.sack else (NOP, NOP)
            parts.append(bytes((*lead, TIMESTAMPS, 10)) + _u32_pair.pack(*self.timestamps))
        elif self.sack:
            parts.append(bytes((NOP, NOP, SACK_PERMITTED, 2)))
        if self.window_scale is not None:
            parts.append(bytes((NOP, WINDOW_SCALE, 3, self.window_scale)))
        return b"".join(parts)


def tcp_segment(
    key: bytes,
    *,
    seq: int,
    ack: int = 0,
    flags: int,
    window: int = 0,
    options: bytes = b"",
    payload: bytes = b"",
) -> bytearray:
    """A whole IP packet with one TCP segment; `options` must be a multiple of four bytes."""
    size = 20 + len(options)
    addresses = key[:-4]
    segment = (
        _tcp_header.pack(key[-4:], seq % MODULUS, ack % MODULUS, size << 2, flags, window, 0, 0)
        + options
        + payload
    )
    total = ones_complement_sum(segment) + ones_complement_sum(addresses) + len(segment) + TCP
    packet = _with_ip_header(addresses, TCP, segment)
    _u16.pack_into(packet, len(packet) - len(segment) + 16, 0xFFFF - ((total - 1) % 0xFFFF + 1))
    return packet


def _with_ip_header(addresses: bytes, protocol: int, content: bytes) -> bytearray:
    if len(addresses) == 8:
        header = bytearray(
            _ipv4_header.pack(
                0x45, 0, 20 + len(content), 0, 0x4000, HOP_LIMIT, protocol, 0, addresses
            )
        )
        _u16.pack_into(header, 10, 0xFFFF - ones_complement_sum(header))
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


def icmp_error(packet: Packet, kind: int, code: int, *, source: bytes, value: int = 0) -> bytearray:
    """An ICMP or ICMPv6 error about `packet`, to its sender, quoting as much as is allowed.

    source: the address it comes from, 4 or 16 bytes. value: the second word of the header, such
    as the next hop's MTU (RFC 1191 section 4, RFC 4443 section 3.2).
    """
    most = _QUOTED_IPV4 if packet.version == 4 else _QUOTED_IPV6
    quoted = bytes(packet.buffer[: min(packet.end, most)])
    content = bytearray(struct.pack("!BBHI", kind, code, 0, value) + quoted)
    total = ones_complement_sum(content)
    protocol, sender = ICMP, quoted[12:16]
    if packet.version == 6:
        protocol, sender = ICMPV6, quoted[8:24]
        total += ones_complement_sum(source + sender) + len(content) + ICMPV6
    _u16.pack_into(content, 2, 0xFFFF - ((total - 1) % 0xFFFF + 1))
    return _with_ip_header(source + sender, protocol, bytes(content))


class QuotedSegment(msgspec.Struct, frozen=True):
    """The TCP segment that an ICMP error is about; `seq_at` is where its `seq` stands."""

    key: bytes
    seq: int
    seq_at: int


def quoted_segment(packet: Packet) -> QuotedSegment | None:
    """What an ICMP or ICMPv6 error quotes.

    None for what is no error, or not about a TCP segment of which the first 8 bytes are there.
    """
    buffer, start = packet.buffer, packet.transport + 8
    kind = buffer[packet.transport]
    if packet.version == 4:
        if kind not in _ICMP_ERRORS or start + 20 > packet.end:
            return None
        transport = start + ((buffer[start] & 0x0F) << 2)
        usable = (
            buffer[start] >> 4 == 4
            and transport >= start + 20
            and buffer[start + 9] == TCP
            and not _u16.unpack_from(buffer, start + 6)[0] & 0x1FFF
        )
        addresses = buffer[start + 12 : start + 20]
    else:
        transport = start + 40
        if kind > _LAST_ICMPV6_ERROR or transport > packet.end:
            return None
        usable = buffer[start] >> 4 == 6 and buffer[start + 6] == TCP
        addresses = buffer[start + 8 : start + 40]
    if not usable or transport + 8 > packet.end:
        return None
    key = bytes(addresses + buffer[transport : transport + 4])
    return QuotedSegment(key, _u32.unpack_from(buffer, transport + 4)[0], transport + 4)
