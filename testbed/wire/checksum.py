"""The Internet checksum: computed (RFC 1071), and followed where its data changes (RFC 1624).

All of it is arithmetic modulo 65535, in which 2**16 is 1: the sum of the 16-bit words of some
bytes is the number that the bytes form together.
"""

from __future__ import annotations

import struct

from testbed.wire.buffer import Buffer
from testbed.wire.ip import ICMP

_u16 = struct.Struct("!H")
_read16, _put16 = _u16.unpack_from, _u16.pack_into


def ones_complement_sum(data: Buffer) -> int:
    """The sum of the words of `data`; 0 only where all bytes are zero."""
    number = int.from_bytes(data, "big") << (8 if len(data) & 1 else 0)
    return (number - 1) % 0xFFFF + 1 if number else 0


def internet_checksum(data: Buffer) -> int:
    """The checksum of `data`, whose checksum field is zero; 0 for data with a right checksum."""
    return 0xFFFF - ones_complement_sum(data)


def transport_checksum(protocol: int, addresses: Buffer, data: Buffer) -> int:
    """The checksum of a transport segment, as `internet_checksum`.

    addresses: source and destination, for the pseudo header that all but ICMP for IPv4 sum up.
    """
    total = ones_complement_sum(data)
    if protocol != ICMP:
        total += ones_complement_sum(addresses) + len(data) + protocol
    return 0xFFFE - (total - 1) % 0xFFFF if total else 0xFFFF


def difference_at(distance: int, new: Buffer, old: Buffer) -> int:
    """What the sum grows by where `new` takes the place of as many bytes `old`.

    distance: from the start of the checksummed data. Where the last byte is the upper one of its
    word, the bytes count 256 times.
    """
    delta = int.from_bytes(new, "big") - int.from_bytes(old, "big")
    return delta << 8 if distance + len(new) & 1 else delta


def adjusted(checksum: int, delta: int) -> int:
    """The checksum of data whose sum grew by `delta` (RFC 1624, equation 3).

    A wrong checksum stays wrong.
    """
    return 0xFFFE - (0xFFFE - checksum + delta) % 0xFFFF


def adjust_checksum(buffer: bytearray, at: int, delta: int) -> None:
    """Adjust the checksum that stands at `at`."""
    (old,) = _read16(buffer, at)
    _put16(buffer, at, adjusted(old, delta))


def adjust_udp_checksum(buffer: bytearray, at: int, delta: int) -> None:
    """Adjust the checksum of a UDP datagram.

    0 says that there is none (RFC 768, RFC 6935), and where 0 comes out its other form is sent.
    """
    (old,) = _read16(buffer, at)
    if old:
        _put16(buffer, at, adjusted(old, delta) or 0xFFFF)
