"""From a frame to its IP packet: link types and VLAN tags.

Sources: https://www.tcpdump.org/linktypes.html, IEEE 802.3 and 802.1Q.
"""

from __future__ import annotations

import struct
from typing import Final

from testbed.wire.buffer import Buffer
from testbed.wire.ip import IpHeaders, read_ip

# EtherTypes
IPV4: Final = 0x0800
IPV6: Final = 0x86DD
NO_TYPE: Final = 0

#: 802.1Q, 802.1ad, and three that were in use for tags before it.
VLAN_TYPES: Final = frozenset({0x8100, 0x88A8, 0x9100, 0x9200, 0x9300})
FULL_FRAME: Final = 1514  # bytes: a packet of 1500 and its Ethernet header
MOST_TAGS: Final = 8  # two are usual; a frame that has more is an attack

# Link types
NULL: Final = 0
ETHERNET: Final = 1
LOOP: Final = 108
LINUX_SLL: Final = 113
LINUX_SLL2: Final = 276
RAW: Final = frozenset({12, 14, 101, 228, 229})  # 12 and 14: raw IP on the BSDs

#: Where the EtherType of a link type stands, and where what it names begins.
TYPE_AT: Final = {ETHERNET: (12, 14), LINUX_SLL: (14, 16), LINUX_SLL2: (0, 20)}
_IPV6_FAMILIES: Final = frozenset({10, 23, 24, 28, 30})  # AF_INET6 of Linux and of each BSD
_u16 = struct.Struct("!H").unpack_from
_VERSIONS: Final = {4: IPV4, 6: IPV6}


def network_layer(data: Buffer, link: int, start: int, stop: int) -> tuple[int, int] | None:
    """The EtherType of what the frame `data[start:stop]` carries, and where that begins.

    VLAN tags are stepped over. The
    EtherType is `NO_TYPE` for a link type that is not known, and for a family other than IP on
    one that names families. None where the frame is cut off before, or has too many tags.
    """
    if link in TYPE_AT:
        type_at, at = TYPE_AT[link]
        at += start
        if at > stop:
            return None
        kind = _u16(data, start + type_at)[0]
        return (kind, at) if kind not in VLAN_TYPES else _behind_tags(data, at, stop)
    if link in RAW:
        return (_VERSIONS.get(data[start] >> 4, NO_TYPE), start) if start < stop else None
    if link in (NULL, LOOP):
        return (_family(data, start), start + 4) if start + 4 <= stop else None
    return NO_TYPE, start


def _behind_tags(data: Buffer, at: int, stop: int) -> tuple[int, int] | None:
    """What is behind the tags, the first of which has its number at `at`."""
    for _ in range(MOST_TAGS):
        at += 4
        if at > stop:
            return None
        (kind,) = _u16(data, at - 2)
        if kind not in VLAN_TYPES:
            return kind, at
    return None


def _family(data: Buffer, start: int) -> int:
    """In the byte order of the capturing machine, which may not be the file's."""
    field = data[start : start + 4]
    family = min(int.from_bytes(field, "little"), int.from_bytes(field, "big"))
    return IPV4 if family == 2 else IPV6 if family in _IPV6_FAMILIES else NO_TYPE


def ip_of_frame(frame: bytes) -> IpHeaders | None:
    """The IP headers of an Ethernet frame; None where it holds no whole IP packet."""
    found = network_layer(frame, ETHERNET, 0, len(frame))
    if found is None or found[0] not in (IPV4, IPV6):
        return None
    headers = read_ip(frame, found[1], len(frame))
    if headers is None or not headers.transport <= headers.end <= len(frame):
        return None
    return headers
