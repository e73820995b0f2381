"""One fragment of an IPv4 or IPv6 datagram, read from its headers."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.wire.ip import LARGEST, OPAQUE, transport_header
from testbed.wire.packet import Packet


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """A piece of a datagram.

    key: the same for all pieces of one datagram, and for no others.
    at: where its data begins in the packet.
    offset, size: of its data in the datagram, in bytes. more: whether there is more behind it.
    before: bytes of headers that the whole datagram has in front of its data, without a fixed
    IPv6 header, which its length field does not count.
    is_tiny: it is a first fragment that does not hold all headers (RFC 1858, RFC 7112). TCP
    options count: a filter that wants to see them must not be outwitted either.
    """

    key: bytes
    at: int
    offset: int
    size: int
    more: bool
    before: int
    is_tiny: bool

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
    headers = packet.headers()
    if headers is None or not headers.is_fragment:
        return None
    buffer, end = packet.buffer, packet.end
    if packet.version == 4:
        at = before = headers.transport
        key = buffer[12:20] + buffer[4:6] + buffer[9:10]  # RFC 791 section 3.2
    else:
        at, before = headers.fragment_header + 8, headers.fragment_header - 40
        key = buffer[8:40] + buffer[at - 4 : at]  # RFC 8200 section 4.5
    whole = (
        headers.protocol != OPAQUE
        and transport_header(buffer, headers.protocol, headers.transport, end) >= 0
    )
    return Fragment(
        key=bytes(key),
        at=at,
        offset=headers.offset,
        size=end - at,
        more=headers.more,
        before=before,
        is_tiny=headers.offset == 0 and not whole,
    )
