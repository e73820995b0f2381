"""From a frame to its TCP header: link layers, VLAN tags, IPv4, IPv6 and extension headers.

This is the careful way, for every shape of packet; the reader has a short cut for the common one.
Link types are those of https://www.tcpdump.org/linktypes.html.
"""

from __future__ import annotations

from typing import NamedTuple

from testbed.trace.pcap import Buffer

ETHERNET = 1
_NULL, _LOOP, _LINUX_SLL, _LINUX_SLL2 = 0, 108, 113, 276
_RAW = frozenset({12, 14, 101, 228, 229})  # 12 and 14: raw IP on the BSDs
_IPV4, _IPV6 = 0x0800, 0x86DD
_TAGS = frozenset({0x8100, 0x88A8, 0x9100, 0x9200, 0x9300})
_IPV6_FAMILIES = frozenset({10, 23, 24, 28, 30})  # AF_INET6 of Linux and of each BSD
_TCP = 6
_FRAGMENT, _AUTHENTICATION = 44, 51
_EXTENSIONS = frozenset({0, 43, 60, 135, 139, 140})


class Located(NamedTuple):
    """A TCP header in a frame.

    key: source address, destination address, source port, destination port: 12 or 36 bytes.
    header: offset of the TCP header.
    end: offset where the IP packet ends on the wire, which may be beyond what was captured.
    fragment: more fragments of this IP packet follow.
    """

    key: bytes
    header: int
    end: int
    fragment: bool


class Malformed(Exception):
    """A packet whose headers contradict each other, or are cut off."""


def locate_tcp(data: Buffer, link: int, start: int, end: int, wire: int) -> Located | None:
    """Find the TCP header of the frame `data[start:end]` that had `wire` bytes on the wire.

    None for a packet that is not TCP, or is a later fragment. Raises Malformed.
    """
    version, at = _network_layer(data, link, start, end)
    if version == 0:
        return None
    wire_end = start + max(wire, end - start)
    if version == 4:
        return _ipv4(data, at, end, wire_end)
    return _ipv6(data, at, end, wire_end)


def _network_layer(data: Buffer, link: int, start: int, end: int) -> tuple[int, int]:
    """IP version (0: not IP) and offset of the IP header."""
    if link == ETHERNET:
        return _ethernet(data, start, end)
    if link == _LINUX_SLL:
        _need(start + 16, end)
        return _version(_u16(data, start + 14)), start + 16
    if link == _LINUX_SLL2:
        _need(start + 20, end)
        return _version(_u16(data, start)), start + 20
    if link in _RAW:
        _need(start + 1, end)
        version = data[start] >> 4
        return (version if version in (4, 6) else 0), start
    if link in (_NULL, _LOOP):
        _need(start + 4, end)
        # The family is in the byte order of the capturing machine, which may not be the file's.
        family = min(
            int.from_bytes(data[start : start + 4], "little"),
            int.from_bytes(data[start : start + 4], "big"),
        )
        return (4 if family == 2 else 6 if family in _IPV6_FAMILIES else 0), start + 4
    return 0, start


def _ethernet(data: Buffer, start: int, end: int) -> tuple[int, int]:
    at = start + 14
    _need(at, end)
    protocol = _u16(data, at - 2)
    while protocol in _TAGS:
        at += 4
        _need(at, end)
        protocol = _u16(data, at - 2)
    return _version(protocol), at


def _ipv4(data: Buffer, at: int, end: int, wire_end: int) -> Located | None:
    """RFC 791."""
    _need(at + 20, end)
    if data[at] >> 4 != 4:
        raise Malformed
    header_length = (data[at] & 15) * 4
    total = _u16(data, at + 2)
    if total == 0:  # a super-segment longer than the field can say (segmentation offload)
        total = wire_end - at
    if header_length < 20 or total < header_length or at + total > wire_end:
        raise Malformed
    fragment = _u16(data, at + 6)
    if data[at + 9] != _TCP or fragment & 0x1FFF:
        return None
    addresses = data[at + 12 : at + 20]
    return _tcp(
        data, addresses, at + header_length, end, at + total, fragment=bool(fragment & 0x2000)
    )


def _ipv6(data: Buffer, at: int, end: int, wire_end: int) -> Located | None:
    """RFC 8200."""
    _need(at + 40, end)
    if data[at] >> 4 != 6:
        raise Malformed
    length = _u16(data, at + 4)
    packet_end = at + 40 + length if length else wire_end  # 0: a jumbogram (RFC 2675)
    if packet_end > wire_end:
        raise Malformed
    addresses = data[at + 8 : at + 40]
    protocol = data[at + 6]
    at += 40
    fragment = False
    while protocol != _TCP:
        if protocol not in _EXTENSIONS and protocol not in (_FRAGMENT, _AUTHENTICATION):
            return None
        _need(at + 8, min(end, packet_end))
        if protocol == _FRAGMENT:
            field = _u16(data, at + 2)
            if field & 0xFFF8:
                return None
            fragment = bool(field & 1)
            size = 8
        elif protocol == _AUTHENTICATION:
            size = (data[at + 1] + 2) * 4
        else:
            size = (data[at + 1] + 1) * 8
        protocol = data[at]
        at += size
    return _tcp(data, addresses, at, end, packet_end, fragment=fragment)


def _tcp(
    data: Buffer, addresses: bytes, at: int, end: int, packet_end: int, *, fragment: bool
) -> Located:
    """RFC 9293, 3.1: the fixed header must be captured, the rest must fit the packet."""
    _need(at + 20, end)
    header_length = data[at + 12] >> 2 & 0x3C
    if header_length < 20 or at + header_length > packet_end:
        raise Malformed
    return Located(addresses + data[at : at + 4], at, packet_end, fragment)


def _version(protocol: int) -> int:
    return 4 if protocol == _IPV4 else 6 if protocol == _IPV6 else 0


def _u16(data: Buffer, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _need(offset: int, end: int) -> None:
    if offset > end:
        raise Malformed
