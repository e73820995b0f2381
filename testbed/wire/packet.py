"""An IP packet as offsets into its bytes: nothing is copied, nothing is built per packet.

One `Packet` is loaded again and again; whoever needs the bytes longer copies them. All offsets
are absolute positions in `buffer`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

# Protocol numbers (IANA)
ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58
OPAQUE: Final = -1  # a fragment, or a transport header that cannot be what it says

# TCP flags (RFC 9293 section 3.1)
FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
PSH: Final = 0x08
ACK: Final = 0x10

# TCP options (IANA)
END: Final = 0
NOP: Final = 1
MSS: Final = 2
WINDOW_SCALE: Final = 3
SACK_PERMITTED: Final = 4
SACK: Final = 5
TIMESTAMPS: Final = 8

_LEAST_HEADER: Final = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}
_CHECKSUM_AT: Final = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}
_MAX_EXTENSIONS: Final = 16
_ROUTING_HEADER: Final = 43
_FRAGMENT_HEADER: Final = 44
_AUTHENTICATION: Final = 51
_EXTENSIONS: Final = frozenset(
    {0, 60, 135, 139, 140, _ROUTING_HEADER, _FRAGMENT_HEADER, _AUTHENTICATION}
)

# Of headers without options or extensions: total or payload length, fragment field (IPv4),
# protocol, key, and of TCP the byte with its data offset.
_plain4 = struct.Struct("!2xHxxHxBxx12s8xB").unpack_from
_plain6 = struct.Struct("!4xHBx36s8xB").unpack_from
_NO_OPTIONS: Final = 0x45  # the first byte of an IPv4 header of 20 bytes
_ipv4 = struct.Struct("!2xHxxHxB").unpack_from
_ipv6 = struct.Struct("!4xHB").unpack_from
_key4 = struct.Struct("12s").unpack_from
_key6 = struct.Struct("36s").unpack_from
_u16 = struct.Struct("!H").unpack_from
_u32 = struct.Struct("!I").unpack_from
_put16 = struct.Struct("!H").pack_into
_put32 = struct.Struct("!I").pack_into


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


def ones_complement_sum(data: bytes | bytearray | memoryview) -> int:
    """The 16-bit ones' complement sum of RFC 1071; 0 only for data of nothing but zeros.

    2**16 is 1 modulo 65535, so the sum of all words is the number they form together.
    """
    number = int.from_bytes(data, "big") << (8 if len(data) & 1 else 0)
    return (number - 1) % 0xFFFF + 1 if number else 0


def adjusted(checksum: int, delta: int) -> int:
    """What becomes of a checksum when the checksummed data changes (RFC 1624, equation 3).

    delta: the new words minus the old ones. A 32-bit field counts as one number, since 2**16 is 1
    modulo 65535; at an odd distance from the start of the checksummed data it counts 256 times. A
    wrong checksum stays wrong.
    """
    return 0xFFFE - (0xFFFE - checksum + delta) % 0xFFFF


def adjust_checksum(buffer: bytearray, at: int, delta: int) -> None:
    """Follow a change of the checksummed data without reading it again, see `adjusted`."""
    (old,) = _u16(buffer, at)
    _put16(buffer, at, adjusted(old, delta))


def add_to_field(buffer: bytearray, at: int, amount: int, start: int) -> int:
    """Add to a 32-bit field, modulo 2**32; the `delta` of a checksum that begins at `start`."""
    (old,) = _u32(buffer, at)
    new = (old + amount) & 0xFFFFFFFF
    _put32(buffer, at, new)
    return int(new - old) << (8 if (at - start) & 1 else 0)


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
        # Nearly all packets are plain TCP or UDP, which one look settles.
        if first == _NO_OPTIONS and length >= 40:
            end, fragment, protocol, key, offset = _plain4(buffer)
            if not fragment & 0x3FFF and self._is_plain(20, end, protocol, offset):
                self.version = 4
                self.key = key
                return True
            return self._load_ipv4()
        version = first >> 4
        if version == 4:
            return self._load_ipv4()
        if version != 6 or length < 40:
            return False
        if length >= 60:
            payload, protocol, key, offset = _plain6(buffer)
            if self._is_plain(40, 40 + payload, protocol, offset):
                self.version = 6
                self.key = key
                return True
        return self._load_ipv6()

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

    def _load_ipv4(self) -> bool:
        buffer = self.buffer
        total, fragment, protocol = _ipv4(buffer)
        transport = (buffer[0] & 0x0F) << 2
        if transport < 20 or not transport <= total <= self.length:
            return False
        self.version = 4
        self.transport = transport
        self.end = total
        # A fragment has more to come or an offset; the don't-fragment bit does not matter.
        self.protocol = OPAQUE if fragment & 0x3FFF or not self._fits(protocol) else protocol
        if self.protocol != TCP and self.protocol != UDP:
            self.key = bytes(buffer[12:20])
        elif transport == 20:
            (self.key,) = _key4(buffer, 12)
        else:
            self.key = bytes(buffer[12:20] + buffer[transport : transport + 4])
        return True

    def _load_ipv6(self) -> bool:
        if self.length < 40:
            return False
        buffer = self.buffer
        payload, protocol = _ipv6(buffer)
        self.version = 6
        self.transport = 40
        self.end = 40 + payload
        if self.end > self.length:
            return False
        if protocol in _EXTENSIONS:
            protocol = self._skip_extensions(protocol)
        self.protocol = protocol if self._fits(protocol) else OPAQUE
        transport = self.transport
        if self.protocol != TCP and self.protocol != UDP:
            self.key = bytes(buffer[8:40])
        elif transport == 40:
            (self.key,) = _key6(buffer, 8)
        else:
            self.key = bytes(buffer[8:40] + buffer[transport : transport + 4])
        return True

    def _skip_extensions(self, protocol: int) -> int:
        """Move `transport` behind the extension headers (RFC 8200 section 4); the protocol."""
        buffer, at, end = self.buffer, self.transport, self.end
        for _ in range(_MAX_EXTENSIONS):
            if protocol not in _EXTENSIONS:
                self.transport = at
                return protocol
            if at + 8 > end:
                return OPAQUE
            if protocol == _FRAGMENT_HEADER:
                if _u16(buffer, at + 2)[0] & 0xFFF9:
                    return OPAQUE
                size = 8
            elif protocol == _AUTHENTICATION:
                size = (buffer[at + 1] + 2) << 2
            elif protocol == _ROUTING_HEADER and buffer[at + 3]:
                return OPAQUE  # segments left: the checksum covers another destination
            else:
                size = (buffer[at + 1] + 1) << 3
            protocol = buffer[at]
            at += size
            if at > end:
                return OPAQUE
        return OPAQUE

    def _fits(self, protocol: int) -> bool:
        """Whether the transport header is whole and its own length possible."""
        transport, end = self.transport, self.end
        if transport + _LEAST_HEADER.get(protocol, 0) > end:
            return False
        if protocol == TCP:
            size = self.buffer[transport + 12] >> 4 << 2
            return size >= 20 and transport + size <= end
        return True

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

    def tcp_options(self) -> Iterator[tuple[int, int, int]]:
        """Kind, position and length (kind and length bytes included) of every option.

        Ends at the first option whose length is impossible (RFC 9293 section 3.1).
        """
        buffer, at, end = self.buffer, self.transport + 20, self.payload
        while at < end:
            kind = buffer[at]
            if kind == NOP:
                at += 1
                continue
            if kind == END or at + 2 > end:
                return
            size = buffer[at + 1]
            if size < 2 or at + size > end:
                return
            yield kind, at, size
            at += size

    # Checksums; only where `protocol` has one: TCP, UDP, ICMP, ICMPv6.

    @property
    def checksum_at(self) -> int:
        return self.transport + _CHECKSUM_AT[self.protocol]

    def checksum_is_right(self) -> bool:
        """Whether the transport checksum fits; a UDP datagram over IPv4 may have none."""
        if (
            self.protocol == UDP
            and self.version == 4
            and not _u16(self.buffer, self.checksum_at)[0]
        ):
            return True
        return self._transport_sum() == 0xFFFF

    def fill_checksum(self) -> None:
        """Compute the transport checksum from scratch."""
        at = self.checksum_at
        _put16(self.buffer, at, 0)
        value = 0xFFFF - self._transport_sum()
        _put16(self.buffer, at, 0xFFFF if value == 0 and self.protocol == UDP else value)

    def _transport_sum(self) -> int:
        data = memoryview(self.buffer)[self.transport : self.end]
        total = ones_complement_sum(data)
        if self.protocol != ICMP:
            addresses = self.buffer[12:20] if self.version == 4 else self.buffer[8:40]
            total += ones_complement_sum(addresses) + len(data) + self.protocol
        return (total - 1) % 0xFFFF + 1
