"""IP headers: IPv4 (RFC 791), IPv6 with its extension headers (RFC 8200), fragments of both."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from testbed.wire.buffer import Buffer

# Protocol numbers (IANA)
ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58
OPAQUE: Final = -1  # what follows cannot be told

IPV4_HEADER: Final = 20  # bytes, without options
IPV6_HEADER: Final = 40
LARGEST: Final = 65535  # of an IPv4 packet, and of what follows an IPv6 header (no jumbograms)
DONT_FRAGMENT: Final = 0x4000  # in the fragment field of IPv4
MORE_FRAGMENTS: Final = 0x2000
IS_FRAGMENT: Final = 0x3FFF  # more fragments, or an offset

ECN_FIELD: Final = 0x03  # of the traffic class (RFC 3168 section 5)
CONGESTION_EXPERIENCED: Final = 0x03

ROUTING_HEADER: Final = 43
FRAGMENT_HEADER: Final = 44
AUTHENTICATION_HEADER: Final = 51
#: Hop-by-hop options, destination options, mobility, HIP and shim6, all of one form, and those
#: above (IANA, "IPv6 Extension Header Types", but for ESP, behind which nothing can be read).
EXTENSION_HEADERS: Final = frozenset(
    {0, 60, 135, 139, 140, ROUTING_HEADER, FRAGMENT_HEADER, AUTHENTICATION_HEADER}
)
#: Twice as many as there are kinds: a packet that has more is an attack.
MOST_EXTENSION_HEADERS: Final = 16

_LEAST_TRANSPORT: Final = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}

_ipv4 = struct.Struct("!BxHxxHxB").unpack_from
_ipv6 = struct.Struct("!4xHB").unpack_from
_u16 = struct.Struct("!H").unpack_from


class IpHeaders(msgspec.Struct, frozen=True, gc=False):
    """The headers of one IP packet, as offsets into the bytes that hold it.

    version: 4 or 6.
    protocol: what the last header says that comes next; `OPAQUE` where the chain of extension
    headers is cut off or too long.
    start: where the packet begins.
    transport: where the last header ends.
    end: where the packet ends by its own length field, which may be beyond the bytes there are.
    A field of 0 makes it `start` in IPv4 (segmentation offload), 40 bytes on in IPv6 (jumbograms).
    offset: of a fragment's data in its datagram, in bytes. more: fragments follow.
    fragment_header: where that of IPv6 stands; 0 where there is none.
    routed: a routing header names destinations that are still to come.
    """

    version: int
    protocol: int
    start: int
    transport: int
    end: int
    offset: int = 0
    more: bool = False
    fragment_header: int = 0
    routed: bool = False

    @property
    def is_fragment(self) -> bool:
        """Whether it is a part of a datagram; one that holds it all is none."""
        return self.more or self.offset > 0


def read_ip(data: Buffer, start: int, stop: int) -> IpHeaders | None:
    """Read the IP headers at `start`, with nothing to be read from `stop` on.

    None where the version is no other than 4 or 6, the IP header is cut off, or its length field
    is less than the header. Whether the packet is there to its end is for the caller to see.
    """
    if start >= stop:
        return None
    version = data[start] >> 4
    if version == 4 and start + IPV4_HEADER <= stop:
        return _read_ipv4(data, start, stop)
    if version == 6 and start + IPV6_HEADER <= stop:
        return _read_ipv6(data, start, stop)
    return None


def _read_ipv4(data: Buffer, start: int, stop: int) -> IpHeaders | None:
    first, total, fragment, protocol = _ipv4(data, start)
    size = (first & 0x0F) << 2
    if size < IPV4_HEADER or start + size > stop or 0 < total < size:
        return None
    end = start + total
    if not fragment & IS_FRAGMENT:
        return IpHeaders(4, protocol, start, start + size, end)
    offset, more = (fragment & 0x1FFF) << 3, bool(fragment & MORE_FRAGMENTS)
    return IpHeaders(4, protocol, start, start + size, end, offset, more)


def _read_ipv6(data: Buffer, start: int, stop: int) -> IpHeaders:
    """Steps over extension headers, up to the data of a later fragment."""
    length, protocol = _ipv6(data, start)
    at = start + IPV6_HEADER
    end = at + length
    if protocol not in EXTENSION_HEADERS:
        return IpHeaders(6, protocol, start, at, end)
    stop = min(stop, end) if length else stop
    offset, more, fragment_header, routed = 0, False, 0, False
    for _ in range(MOST_EXTENSION_HEADERS):
        if at + 8 > stop:
            protocol = OPAQUE
            break
        size = (data[at + 1] + 1) << 3
        if protocol == FRAGMENT_HEADER:
            (field,) = _u16(data, at + 2)
            offset, more, fragment_header, size = field & 0xFFF8, bool(field & 1), at, 8
        elif protocol == AUTHENTICATION_HEADER:
            size = (data[at + 1] + 2) << 2
        elif protocol == ROUTING_HEADER and data[at + 3]:
            routed = True
        if at + size > stop:
            protocol = OPAQUE
            break
        protocol = data[at]
        at += size
        if offset or protocol not in EXTENSION_HEADERS:
            break
    else:
        protocol = OPAQUE
    return IpHeaders(6, protocol, start, at, end, offset, more, fragment_header, routed)


def transport_header(data: Buffer, protocol: int, at: int, end: int) -> int:
    """The size of the transport header at `at`, in bytes: 0 for a protocol that is not known.

    -1 where the header is not whole before `end`, or says that it is shorter than one can be.
    """
    least = _LEAST_TRANSPORT.get(protocol, 0)
    if at + least > end:
        return -1
    if protocol != TCP:
        return least
    size = data[at + 12] >> 4 << 2
    return size if size >= least and at + size <= end else -1


def payload_of(data: Buffer, headers: IpHeaders) -> int:
    """Where the transport header of a packet ends.

    Where its transport begins, if there is no header (a later fragment), or none to be read.
    """
    at = headers.transport
    if headers.offset:
        return at
    return at + max(0, transport_header(data, headers.protocol, at, headers.end))
