"""Changes to a packet in place, its checksums following without being computed anew."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from testbed.wire.packet import (
    MSS,
    NOP,
    SACK,
    SACK_PERMITTED,
    TIMESTAMPS,
    WINDOW_SCALE,
    Packet,
    adjust_checksum,
)

ECN_FIELD: Final = 0x03  # of the traffic class (RFC 3168 section 5)

MPTCP: Final = 30  # RFC 8684
FAST_OPEN: Final = 34  # RFC 7413
_EXPERIMENTS: Final = frozenset({253, 254})  # RFC 4727; RFC 6994 tells them apart by an identifier
_FAST_OPEN_EXPERIMENT: Final = b"\xf9\x89"  # RFC 7413 section 4.1.1

OptionName: TypeAlias = Literal[
    "mss", "window-scale", "sack", "timestamps", "tfo", "mptcp", "unknown"
]

_NAMES: Final[dict[int, OptionName]] = {
    MSS: "mss",
    WINDOW_SCALE: "window-scale",
    SACK_PERMITTED: "sack",
    SACK: "sack",
    TIMESTAMPS: "timestamps",
    MPTCP: "mptcp",
    FAST_OPEN: "tfo",
}


def option_name(packet: Packet, kind: int, at: int, size: int) -> OptionName:
    """What a TCP option of `packet`, given as `tcp_options` gives it, is called."""
    if (
        kind in _EXPERIMENTS
        and size >= 4
        and packet.buffer[at + 2 : at + 4] == _FAST_OPEN_EXPERIMENT
    ):
        return "tfo"
    return _NAMES.get(kind, "unknown")


def overwrite(packet: Packet, at: int, new: bytes) -> None:
    """Put `new` at a position of the transport segment; its checksum follows (RFC 1624).

    Only for protocols that have a checksum, and not for the checksum itself.
    """
    buffer, end = packet.buffer, at + len(new)
    delta = int.from_bytes(new, "big") - int.from_bytes(buffer[at:end], "big")
    if (end - packet.transport) & 1:  # the last byte is the upper one of its word
        delta <<= 8
    buffer[at:end] = new
    adjust_checksum(buffer, packet.checksum_at, delta)


def blank_option(packet: Packet, at: int, size: int) -> None:
    """Overwrite a TCP option with padding, so that nothing moves."""
    overwrite(packet, at, bytes((NOP,)) * size)


def set_traffic_class(packet: Packet, value: int) -> None:
    """Set the byte that holds DSCP and ECN (RFC 2474, RFC 3168); IPv4's checksum follows."""
    buffer = packet.buffer
    if packet.version == 6:
        buffer[0] = 0x60 | value >> 4
        buffer[1] = (value & 0x0F) << 4 | (buffer[1] & 0x0F)
        return
    delta = value - buffer[1]
    buffer[1] = value
    adjust_checksum(buffer, 10, delta)


def traffic_class(packet: Packet) -> int:
    """The byte that holds DSCP in its upper six bits and ECN in its lower two."""
    buffer = packet.buffer
    if packet.version == 6:
        return (buffer[0] & 0x0F) << 4 | buffer[1] >> 4
    return buffer[1]
