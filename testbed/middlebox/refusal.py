"""How a box tells a sender that its packet went no further."""

from __future__ import annotations

from typing import Final, NamedTuple

from testbed.wire.packet import ICMP, ICMPV6, OPAQUE, RST, TCP, Packet
from testbed.wire.segments import icmp_error, reset_for

_IPV6_FRAGMENT: Final = 44
_INFORMS: Final = {ICMP: frozenset({0, 8, 13, 14}), ICMPV6: frozenset(range(128, 256))}


class Reason(NamedTuple):
    """Type and code of an ICMP error, for each version of IP."""

    icmp: tuple[int, int]
    icmpv6: tuple[int, int]


TOO_BIG: Final = Reason((3, 4), (2, 0))  # RFC 1191, RFC 8201
PROHIBITED: Final = Reason((3, 13), (1, 1))  # RFC 1812 section 5.2.7.1, RFC 4443 section 3.1


def error_about(packet: Packet, reason: Reason, value: int = 0) -> bytearray | None:
    """The ICMP error for the sender of `packet`; None where none may be sent.

    None is sent about errors, fragments after the first, and what went to or came from many
    (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e)). It comes from the address that the
    packet was sent to, because the box has none of its own. value: as for `icmp_error`.
    """
    buffer = packet.buffer
    informs = _INFORMS.get(packet.protocol)
    if informs is not None and buffer[packet.transport] not in informs:
        return None
    if packet.version == 4:
        later_fragment = packet.protocol == OPAQUE and (buffer[6] & 0x1F or buffer[7])
        source, destination = buffer[12:16], buffer[16:20]
        many = destination[0] >= 224 or source[0] >= 224 or not any(source)
    else:
        later_fragment = packet.protocol == OPAQUE and buffer[6] == _IPV6_FRAGMENT
        source, destination = buffer[8:24], buffer[24:40]
        many = destination[0] == 0xFF or source[0] == 0xFF or not any(source)
    if later_fragment or many:
        return None
    kind, code = reason.icmp if packet.version == 4 else reason.icmpv6
    return icmp_error(packet, kind, code, source=bytes(destination), value=value)


def reset_about(packet: Packet) -> bytearray | None:
    """The reset for the sender of a TCP segment; None for a reset and what is no segment."""
    if packet.protocol != TCP or packet.flags & RST:
        return None
    return reset_for(packet)
