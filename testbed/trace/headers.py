"""From a frame to its TCP header, whatever the link layer and the IP headers.

This is the careful way, for every shape of packet; the reader has a short cut for the common one.
"""

from __future__ import annotations

from typing import NamedTuple

from testbed.trace.pcap import Buffer
from testbed.wire.frame import IPV4, IPV6, network_layer
from testbed.wire.ip import OPAQUE, TCP, read_ip


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
    found = network_layer(data, link, start, end)
    if found is None:
        raise Malformed
    kind, at = found
    if kind not in (IPV4, IPV6):
        return None
    headers = read_ip(data, at, end)
    if headers is None or headers.version != (4 if kind == IPV4 else 6):
        raise Malformed
    wire_end = start + max(wire, end - start)
    packet_end = headers.end
    if packet_end == at + (0 if kind == IPV4 else 40):  # the field cannot say how long it is
        packet_end = wire_end
    if packet_end > wire_end or headers.protocol == OPAQUE:
        raise Malformed
    if headers.protocol != TCP or headers.offset:
        return None
    # The fixed header must be captured, the rest must fit the packet.
    header = headers.transport
    if header + 20 > end:
        raise Malformed
    header_length = data[header + 12] >> 2 & 0x3C
    if header_length < 20 or header + header_length > packet_end:
        raise Malformed
    addresses = data[at + 12 : at + 20] if kind == IPV4 else data[at + 8 : at + 40]
    return Located(addresses + data[header : header + 4], header, packet_end, headers.more)
