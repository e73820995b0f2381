"""Changes to a packet in place, its checksums following without being computed anew."""

from __future__ import annotations

import struct

from testbed.wire.checksum import adjust_checksum, difference_at, ones_complement_sum
from testbed.wire.flags import AE, CWR, ECE
from testbed.wire.options import NOP
from testbed.wire.packet import Packet
from testbed.wire.sequence import MASK

_u16 = struct.Struct("!H")
_u32 = struct.Struct("!I")


def replace_bytes(buffer: bytearray, at: int, new: bytes, start: int) -> int:
    """Put `new` at a position; what the sum of data that begins at `start` grows by."""
    end = at + len(new)
    delta = difference_at(at - start, new, buffer[at:end])
    buffer[at:end] = new
    return delta


def add_to_field(buffer: bytearray, at: int, amount: int, start: int) -> int:
    """Add to a 32-bit field, modulo 2**32; the same as `replace_bytes`."""
    (old,) = _u32.unpack_from(buffer, at)
    new = (old + amount) & MASK
    _u32.pack_into(buffer, at, new)
    return int(new - old) << (8 if (at - start) & 1 else 0)


def overwrite(packet: Packet, at: int, new: bytes) -> None:
    """Put `new` at a position of a TCP segment; its checksum follows."""
    delta = replace_bytes(packet.buffer, at, new, packet.transport)
    adjust_checksum(packet.buffer, packet.checksum_at, delta)


def blank_option(packet: Packet, at: int, size: int) -> None:
    """Overwrite a TCP option with padding, so that nothing moves."""
    overwrite(packet, at, bytes((NOP,)) * size)


def clear_ecn_flags(packet: Packet) -> bool:
    """Clear ECE, CWR and AE of a TCP segment; whether any was set.

    In a SYN they ask for ECN, in a SYN/ACK they agree (RFC 3168 section 6.1.1, RFC 9768).
    """
    at = packet.transport + 12
    offset, flags = packet.buffer[at : at + 2]
    cleared = bytes((offset & ~AE, flags & ~(ECE | CWR)))
    if cleared == bytes((offset, flags)):
        return False
    overwrite(packet, at, cleared)
    return True


def set_length(buffer: bytearray, length: int) -> None:
    """Tell an IP packet another length, in bytes; IPv4's checksum follows."""
    if buffer[0] >> 4 == 4:
        delta = replace_bytes(buffer, 2, _u16.pack(length), 0)
        adjust_checksum(buffer, 10, delta)
    else:
        _u16.pack_into(buffer, 4, length - 40)


def cut_payload(packet: Packet) -> None:
    """Take the data off a TCP segment; lengths and checksums follow."""
    start, end = packet.payload, packet.end
    if start == end:
        return
    # The pseudo header has the length too.
    delta = ones_complement_sum(packet.buffer[start:end]) + end - start
    adjust_checksum(packet.buffer, packet.checksum_at, -delta)
    set_length(packet.buffer, start)
    packet.end = packet.length = start


def replace_address(packet: Packet, address: bytes, *, destination: bool) -> int:
    """Put another address into the IP header; IPv4's checksum follows.

    What the sum of a pseudo header grows by. The packet's `key` is not read again.
    """
    width = len(address)
    at = (12 if width == 4 else 8) + (width if destination else 0)
    delta = replace_bytes(packet.buffer, at, address, 0)
    if width == 4:
        adjust_checksum(packet.buffer, 10, delta)
    return delta


def traffic_class(buffer: bytes | bytearray, start: int = 0) -> int:
    """The byte of the IP header at `start` that holds DSCP (6 bits) and ECN (2)."""
    if buffer[start] >> 4 == 6:
        return (buffer[start] & 0x0F) << 4 | buffer[start + 1] >> 4
    return buffer[start + 1]


def set_traffic_class(buffer: bytearray, value: int, start: int = 0) -> None:
    """Set that byte (RFC 2474, RFC 3168); IPv4's checksum follows."""
    if buffer[start] >> 4 == 6:
        buffer[start] = 0x60 | value >> 4
        buffer[start + 1] = (value & 0x0F) << 4 | (buffer[start + 1] & 0x0F)
    else:
        adjust_checksum(buffer, start + 10, value - buffer[start + 1])
        buffer[start + 1] = value
