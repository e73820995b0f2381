"""Where the headers of a frame are. Anything may come: what is not understood is None.

Sources: IEEE 802.3 and 802.1Q, RFC 791, RFC 8200, RFC 9293, RFC 768.
"""

from __future__ import annotations

from typing import NamedTuple

_VLAN = (0x8100, 0x88A8)
_IPV4 = 0x0800
_IPV6 = 0x86DD
_TCP = 6
_UDP = 17
#: IPv6 extension headers that have a length: hop-by-hop, routing, destination options.
_EXTENSIONS = (0, 43, 60)
_FRAGMENT = 44
_MOST_EXTENSIONS = 8


class Headers(NamedTuple):
    """Offsets into a frame: the IP header, the transport header, what follows it, the IP end.

    Without a known or complete transport header (a later fragment, a short frame, ICMP), payload
    and transport are the same. version: 4 or 6; protocol: the number of the transport.
    """

    version: int
    protocol: int
    network: int
    transport: int
    payload: int
    end: int

    @classmethod
    def of(cls, frame: bytes) -> Headers | None:
        """The headers of an IP frame, None for any other and for one cut short."""
        offset = 12
        kind = int.from_bytes(frame[offset : offset + 2], "big")
        while kind in _VLAN:
            offset += 4
            kind = int.from_bytes(frame[offset : offset + 2], "big")
        network = offset + 2
        if kind == _IPV4:
            return _ipv4(frame, network)
        if kind == _IPV6:
            return _ipv6(frame, network)
        return None

    @property
    def is_tcp(self) -> bool:
        """Whether there is a whole TCP header."""
        return self.protocol == _TCP and self.payload > self.transport


def _ipv4(frame: bytes, network: int) -> Headers | None:
    if len(frame) < network + 20 or frame[network] >> 4 != 4:
        return None
    transport = network + 4 * (frame[network] & 15)
    end = network + int.from_bytes(frame[network + 2 : network + 4], "big")
    if transport < network + 20 or not transport <= end <= len(frame):
        return None
    protocol = frame[network + 9]
    later = int.from_bytes(frame[network + 6 : network + 8], "big") & 0x1FFF
    payload = transport if later else _payload(frame, protocol, transport, end)
    return Headers(4, protocol, network, transport, payload, end)


def _ipv6(frame: bytes, network: int) -> Headers | None:
    if len(frame) < network + 40 or frame[network] >> 4 != 6:
        return None
    end = network + 40 + int.from_bytes(frame[network + 4 : network + 6], "big")
    if end > len(frame):
        return None
    protocol, transport, later = frame[network + 6], network + 40, False
    for _ in range(_MOST_EXTENSIONS):
        if protocol not in _EXTENSIONS and protocol != _FRAGMENT:
            break
        if transport + 8 > end:
            return None
        if protocol == _FRAGMENT:
            size = 8
            later = later or int.from_bytes(frame[transport + 2 : transport + 4], "big") >> 3 > 0
        else:
            size = 8 + 8 * frame[transport + 1]
        protocol, transport = frame[transport], transport + size
    if transport > end:
        return None
    payload = transport if later else _payload(frame, protocol, transport, end)
    return Headers(6, protocol, network, transport, payload, end)


def _payload(frame: bytes, protocol: int, transport: int, end: int) -> int:
    """Where the transport header ends; `transport` when it is unknown or does not fit."""
    size = 0
    if protocol == _TCP and transport + 20 <= end:
        size = 4 * (frame[transport + 12] >> 4)
        if size < 20:
            size = 0
    elif protocol == _UDP:
        size = 8
    return transport + size if transport + size <= end else transport
