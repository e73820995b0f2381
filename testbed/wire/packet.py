"""An IP packet as offsets into its bytes: nothing is copied, nothing is built per packet.

One `Packet` is loaded again and again; whoever needs the bytes longer copies them. All offsets
are absolute positions in `buffer`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from testbed.wire.checksum import transport_checksum
from testbed.wire.ip import (
    ICMP,
    ICMPV6,
    IS_FRAGMENT,
    OPAQUE,
    TCP,
    UDP,
    IpHeaders,
    read_ip,
    transport_header,
)
from testbed.wire.options import Options, parse_options, walk

CHECKSUM_AT: Final = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}
"""Where in its header each protocol has its checksum, in bytes."""

# Of headers without options or extensions: total or payload length, fragment field (IPv4),
# protocol, key, and of TCP the byte with its data offset.
_plain4 = struct.Struct("!2xHxxHxBxx12s8xB").unpack_from
_plain6 = struct.Struct("!4xHBx36s8xB").unpack_from
_NO_OPTIONS: Final = 0x45  # the first byte of an IPv4 header of 20 bytes
_u16 = struct.Struct("!H").unpack_from
_u32 = struct.Struct("!I").unpack_from
_put16 = struct.Struct("!H").pack_into


class Side(IntEnum):
    """A side of a middlebox. A packet's side is the one it came from."""

    OUTSIDE = 0
    INSIDE = 1

    @property
    def other(self) -> Side:
        return OTHER[self]


OTHER: Final = (Side.INSIDE, Side.OUTSIDE)
OUTSIDE: Final = Side.OUTSIDE
INSIDE: Final = Side.INSIDE


def reverse_key(key: bytes) -> bytes:
    """The key of a packet that goes the other way."""
    width = (len(key) - 4) // 2
    return key[width : 2 * width] + key[:width] + key[-2:] + key[-4:-2]


def address_length(key: bytes) -> int:
    """4 for IPv4, 16 for IPv6."""
    return (len(key) - 4) // 2


class Packet:
    """A view of one IPv4 or IPv6 packet.

    buffer, length: the packet is `buffer[:length]`. version: 4 or 6. protocol: the transport
    protocol, `OPAQUE` where its header is not usable. transport: where the transport header
    starts. end: where the packet ends by its own length field. key: source address, destination
    address and, for TCP and UDP, source and destination port, as they stand in the packet.
    """

    __slots__ = ("buffer", "end", "key", "length", "protocol", "side", "transport", "version")

    buffer: bytearray
    length: int
    side: Side
    version: int
    protocol: int
    transport: int
    end: int
    key: bytes

    def load(self, buffer: bytearray, length: int, side: Side) -> bool:
        """Look at another packet; False where it is none: no version, header or length fits."""
        self.buffer = buffer
        self.length = length
        self.side = side
        if length < 20:
            return False
        first = buffer[0]
        # Nearly all packets are plain TCP or UDP, which one look settles. It may see bytes behind
        # the packet, and makes no use of them.
        if first == _NO_OPTIONS and len(buffer) >= 40:
            end, fragment, protocol, key, offset = _plain4(buffer)
            if not fragment & IS_FRAGMENT and self._is_plain(20, end, protocol, offset):
                self.version = 4
                self.key = key
                return True
        elif first >> 4 == 6 and len(buffer) >= 60:
            payload, protocol, key, offset = _plain6(buffer)
            if self._is_plain(40, 40 + payload, protocol, offset):
                self.version = 6
                self.key = key
                return True
        return self._load_any()

    def _is_plain(self, transport: int, end: int, protocol: int, offset: int) -> bool:
        """Whether a whole header of TCP or UDP is there."""
        if protocol == TCP:
            if offset < 0x50 or transport + (offset >> 4 << 2) > end:
                return False
        elif protocol != UDP or transport + 8 > end:
            return False
        self.protocol = protocol
        self.transport = transport
        self.end = end
        return end <= self.length

    def _load_any(self) -> bool:
        headers = self.headers()
        if headers is None or not headers.transport <= headers.end <= self.length:
            return False
        buffer, protocol, transport = self.buffer, headers.protocol, headers.transport
        self.version, self.transport, self.end = headers.version, transport, headers.end
        # The checksum behind a routing header that is not done covers another destination.
        if (
            headers.is_fragment
            or headers.routed
            or transport_header(buffer, protocol, transport, headers.end) < 0
        ):
            protocol = OPAQUE
        self.protocol = protocol
        self.key = bytes(buffer[12:20] if self.version == 4 else buffer[8:40])
        if protocol in (TCP, UDP):
            self.key += buffer[transport : transport + 4]
        return True

    def headers(self) -> IpHeaders | None:
        """All that its IP headers say; None only before `load` has found a packet."""
        return read_ip(self.buffer, 0, self.length)

    def reload(self) -> None:
        """Read the offsets and the key again after the headers were changed."""
        self.load(self.buffer, self.length, self.side)

    def copy(self) -> bytearray:
        return self.buffer[: self.length]

    # TCP; only where `protocol` is TCP.

    @property
    def seq(self) -> int:
        return int(_u32(self.buffer, self.transport + 4)[0])

    @property
    def ack(self) -> int:
        return int(_u32(self.buffer, self.transport + 8)[0])

    @property
    def flags(self) -> int:
        return self.buffer[self.transport + 13]

    @property
    def window(self) -> int:
        """As it stands in the header, not scaled."""
        return int(_u16(self.buffer, self.transport + 14)[0])

    @property
    def payload(self) -> int:
        """Where the TCP payload starts."""
        return self.transport + (self.buffer[self.transport + 12] >> 4 << 2)

    def walk_options(self) -> Iterator[tuple[int, int, int]]:
        """Kind, position and length of every TCP option, as `options.walk`."""
        return walk(self.buffer, self.transport + 20, self.payload)

    def options(self) -> Options:
        """The TCP options, parsed."""
        return parse_options(self.buffer, self.transport + 20, self.payload)

    # Checksums; only where `protocol` has one: TCP, UDP, ICMP, ICMPv6.

    @property
    def checksum_at(self) -> int:
        return self.transport + CHECKSUM_AT[self.protocol]

    def checksum_is_right(self) -> bool:
        """Whether the transport checksum fits; a UDP datagram over IPv4 may have none."""
        if (
            self.protocol == UDP
            and self.version == 4
            and not _u16(self.buffer, self.checksum_at)[0]
        ):
            return True
        return self._compute_checksum() == 0

    def fill_checksum(self) -> None:
        """Compute the transport checksum from scratch."""
        at = self.checksum_at
        _put16(self.buffer, at, 0)
        value = self._compute_checksum()
        _put16(self.buffer, at, 0xFFFF if value == 0 and self.protocol == UDP else value)

    def _compute_checksum(self) -> int:
        addresses = self.buffer[12:20] if self.version == 4 else self.buffer[8:40]
        return transport_checksum(
            self.protocol, addresses, memoryview(self.buffer)[self.transport : self.end]
        )
