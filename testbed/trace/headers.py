"""From a frame to its TCP header, whatever the link layer, tags, tunnels and IP headers.

This is the careful way, for every shape of packet; the reader has a short cut for the common one.

Sources: RFC 1661 and 1662 (PPP), RFC 2516 (PPPoE), RFC 3032 (MPLS), RFC 2003, 2473 and 4213 (IP in
IP), RFC 2784 and 2890 (GRE), RFC 2637 (GRE of PPTP), draft-foschiano-erspan, RFC 7348 (VXLAN),
RFC 8926 (Geneve), 3GPP TS 29.281 (GTP-U), linux/netfilter/nfnetlink_log.h (NFLOG).
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Literal, NamedTuple

from testbed.trace import protocols
from testbed.trace.protocols import VLAN, unread
from testbed.trace.source import Buffer
from testbed.wire.frame import ETHERNET, IPV4, IPV6, LINUX_SLL, LINUX_SLL2, network_layer
from testbed.wire.ip import IS_FRAGMENT, OPAQUE, TCP, UDP, IpHeaders, read_ip

_MOST_LAYERS = 12
_PLAIN_SIZE = 58  # bytes: Ethernet, a tag and IPv6
_NOTHING: tuple[str, ...] = ()
_TAGGED, _PLAIN_IPV4, _PLAIN_IPV6 = b"\x81\x00", b"\x08\x00", b"\x86\xdd"
_LEAST_HEADER = 16  # bytes of a TCP header: up to the window
_TAGS_FROM = {ETHERNET: 14, LINUX_SLL: 16, LINUX_SLL2: 20}
VLAN_ID = 0x0FFF


class Located(NamedTuple):
    """A TCP header in a frame.

    key: source address, destination address, source port, destination port: 12 or 36 bytes.
    network: offset of the IP header before it.
    header: offset of the TCP header.
    end: offset where the IP packet ends on the wire, which may be beyond what was captured.
    fragment: more fragments of this IP packet follow.
    around: VLANs and tunnels that it is in, from the outside in: the same both ways mostly.
    """

    key: bytes
    network: int
    header: int
    end: int
    fragment: bool
    around: tuple[str, ...]


class Malformed(Exception):
    """A packet whose headers contradict each other."""


class CutOff(Exception):
    """A packet of which the snap length has cut the headers."""


def locate_tcp(data: Buffer, link: int, start: int, end: int, wire: int) -> Located | str:
    """Find the TCP header of the frame `data[start:end]` that had `wire` bytes on the wire.

    A name for a packet that is not TCP ("UDP", "later fragment"), beginning with `UNREAD` where
    it may hold TCP in what is not known here. Raises Malformed or CutOff.
    """
    if link == ETHERNET and end - start >= _PLAIN_SIZE:
        found = _plain(data, start, end)
        if found is not None:
            return found
    return _Walk(data, end, start + max(wire, end - start)).link(link, start)


def _plain(data: Buffer, start: int, end: int) -> Located | None:
    """A short cut for Ethernet with one tag at most, IPv6 without extensions, IPv4 without options.

    None for everything else, which the walk through the layers reads.
    """
    kind, at, around = data[start + 12 : start + 14], start + 14, _NOTHING
    if kind == _TAGGED:
        vlan = (data[at] << 8 | data[at + 1]) & VLAN_ID
        if not vlan:
            return None
        kind, at, around = data[start + 16 : start + 18], start + 18, in_vlan(vlan)
    if kind == _PLAIN_IPV6 and data[at] >> 4 == 6 and data[at + 6] == TCP:
        key, header = at + 8, at + 40
        packet_end = header + (data[at + 4] << 8 | data[at + 5])
    elif kind == _PLAIN_IPV4 and data[at] == 0x45 and data[at + 9] == TCP:
        if (data[at + 6] << 8 | data[at + 7]) & IS_FRAGMENT:
            return None
        key, header = at + 12, at + 20
        packet_end = at + (data[at + 2] << 8 | data[at + 3])
    else:
        return None
    if header + 20 > end:
        return None
    length = data[header + 12] >> 2 & 0x3C
    if length < 20 or header + length > packet_end:
        return None
    return Located(data[key : header + 4], at, header, packet_end, False, around)


@lru_cache(4096)
def in_vlan(vlan: int) -> tuple[str, ...]:
    """What a flow in a VLAN is in; 0: none."""
    return (f"{VLAN} {vlan}",) if vlan else _NOTHING


class _Walk:
    """The way through the layers of one frame; each method reads one and goes on with the next.

    end: of what was captured. wire_end: of what was on the wire, for packets without a length.
    """

    __slots__ = ("around", "data", "end", "layers", "wire_end")

    def __init__(self, data: Buffer, end: int, wire_end: int) -> None:
        self.data = data
        self.end = end
        self.wire_end = wire_end
        self.around = _NOTHING
        self.layers = 0

    def short(self) -> Exception:
        """What it means that something is missing at the end."""
        return CutOff() if self.end < self.wire_end else Malformed()

    def need(self, at: int) -> None:
        """All before `at` is there. Raises Malformed or CutOff."""
        if at > self.end:
            raise self.short()
        self.layers += 1
        if self.layers > _MOST_LAYERS:
            raise Malformed

    def u16(self, at: int) -> int:
        return self.data[at] << 8 | self.data[at + 1]

    def u32(self, at: int) -> int:
        return int.from_bytes(self.data[at : at + 4], "big")

    # -- link layers -----------------------------------------------------------------------

    def link(self, link: int, at: int) -> Located | str:
        if link in _TAGS_FROM:
            return self.frame(link, at, "")
        if link in protocols.PPP:
            return self.ppp(at + (link == protocols.PPP_WITH_DIRECTION))
        if link == protocols.PPP_ETHER:
            return self.pppoe(at)
        if link == protocols.NFLOG:
            return self.nflog(at)
        if link == protocols.CISCO_HDLC:
            self.need(at + 4)
            return self.ethertype(self.u16(at + 2), at + 4)
        if link == protocols.ATM_RFC1483:
            return self.llc(at)
        return self.frame(link, at, f"link type {link}{_in_brackets(protocols.LINK_NAMES, link)}")

    def frame(self, link: int, start: int, name: str) -> Located | str:
        """A frame with an EtherType, and its VLAN tags."""
        self.need(start)
        found = network_layer(self.data, link, start, self.end)
        if found is None:
            raise self.short()
        kind, at = found
        first = start + _TAGS_FROM.get(link, at - start)
        for tag in range(first, at, 4):
            if vlan := self.u16(tag) & VLAN_ID:  # 0: a priority, and no VLAN
                self.around += (f"{VLAN} {vlan}",)
        if kind == 0 and link not in _TAGS_FROM:
            return unread(name) if at == start else "another address family"
        return self.ethertype(kind, at)

    def ethertype(self, kind: int, at: int) -> Located | str:
        if kind in (IPV4, IPV6):
            return self.ip(at, 4 if kind == IPV4 else 6)
        if kind == protocols.PPPOE_SESSION:
            return self.pppoe(at)
        if kind in protocols.MPLS:
            return self.mpls(at)
        if kind == protocols.TRANSPARENT_ETHERNET:
            return self.frame(ETHERNET, at, "Ethernet")
        if kind <= protocols.LARGEST_LENGTH:
            return self.llc(at)
        return protocols.ETHERTYPE_NAMES.get(kind) or unread(f"EtherType {kind:#06x}")

    def llc(self, at: int) -> Located | str:
        """IEEE 802.2; with SNAP it names an EtherType."""
        if at + 8 > self.end:
            return "LLC"
        if self.data[at : at + 6] == b"\xaa\xaa\x03\0\0\0":
            return self.ethertype(self.u16(at + 6), at + 8)
        return "LLC"

    def ppp(self, at: int) -> Located | str:
        self.need(at + 2)
        if self.data[at : at + 2] == b"\xff\x03":
            at += 2
            self.need(at + 2)
        if self.data[at] & 1:  # compressed to one byte
            number, at = self.data[at], at + 1
        else:
            number, at = self.u16(at), at + 2
        if number == 0x21:
            return self.ip(at, 4)
        if number == 0x57:
            return self.ip(at, 6)
        if number in (0x281, 0x283):
            return self.mpls(at)
        if number >= 0x8000:
            return "PPP control"
        return unread(f"PPP protocol {number:#06x}")

    def pppoe(self, at: int) -> Located | str:
        self.need(at + 6)
        if self.data[at + 1]:
            return "PPPoE discovery"
        self.around += (f"PPPoE session {self.u16(at + 2)}",)
        return self.ppp(at + 6)

    def mpls(self, at: int) -> Located | str:
        """Labels differ by direction and are not told."""
        self.need(at + 4)
        while not self.data[at + 2] & 1:
            at += 4
            self.need(at + 4)
        at += 4
        self.need(at + 1)
        self.around += ("MPLS",)
        version = self.data[at] >> 4
        if version in (4, 6):
            return self.ip(at, version)
        if version == 0:  # the control word of a pseudowire (RFC 4385)
            return self.frame(ETHERNET, at + 4, "Ethernet")
        return unread("MPLS pseudowire")

    def nflog(self, at: int) -> Located | str:
        """Attributes in the byte order of the capturing machine; number 9 is the packet."""
        self.need(at + 6)
        at += 4
        order: Literal["little", "big"] = "little" if self.data[at] else "big"
        while at + 4 <= self.end:
            length = int.from_bytes(self.data[at : at + 2], order)
            kind = int.from_bytes(self.data[at + 2 : at + 4], order)
            if length < 4:
                raise Malformed
            if kind == 9:
                self.need(at + 5)
                return self.ip(at + 4, self.data[at + 4] >> 4)
            at += length + 3 & ~3
        return "NFLOG without a packet"

    # -- IP and what is in it --------------------------------------------------------------

    def ip(self, at: int, version: int) -> Located | str:
        self.need(at + (20 if version == 4 else 40))
        headers = read_ip(self.data, at, self.end)
        if headers is None or headers.version != version:
            raise Malformed
        end = headers.end
        if end == at + (0 if version == 4 else 40):  # the field cannot say how long it is
            end = self.wire_end
        if headers.protocol == OPAQUE:
            raise self.short()
        if headers.offset:
            return "later fragment"
        protocol, inside = headers.protocol, headers.transport
        if protocol == TCP:
            return self.tcp(headers, end)
        self.wire_end = end
        if protocol == UDP:
            return self.udp(headers)
        if protocol == protocols.GRE:
            return self.gre(headers)
        if protocol in (protocols.IPV4_INSIDE, protocols.IPV6_INSIDE, protocols.MPLS_IN_IP):
            self.tunnel("IP in IP", headers)
            if protocol == protocols.MPLS_IN_IP:
                return self.mpls(inside)
            return self.ip(inside, 4 if protocol == protocols.IPV4_INSIDE else 6)
        return protocols.IP_NAMES.get(protocol, f"IP protocol {protocol}")

    def tcp(self, headers: IpHeaders, packet_end: int) -> Located:
        """The fixed header must be captured up to the window, all of it must fit the packet."""
        header = headers.transport
        self.need(header + _LEAST_HEADER)
        length = self.data[header + 12] >> 2 & 0x3C
        if length < 20 or header + length > packet_end:
            raise Malformed
        key = self.addresses(headers) + self.data[header : header + 4]
        return Located(key, headers.start, header, packet_end, headers.more, self.around)

    def addresses(self, headers: IpHeaders) -> bytes:
        start = headers.start
        if headers.version == 4:
            return bytes(self.data[start + 12 : start + 20])
        return bytes(self.data[start + 8 : start + 40])

    def tunnel(self, name: str, headers: IpHeaders) -> None:
        self.around += (_tunnel_name(name, self.addresses(headers)),)

    def udp(self, headers: IpHeaders) -> Located | str:
        at = headers.transport
        self.need(at + 8)
        ports = self.u16(at), self.u16(at + 2)
        at += 8
        if at + 8 > self.end:
            return "UDP"
        if ports[1] in protocols.VXLAN and self.data[at] & 0x08 and not self.data[at + 7]:
            self.tunnel(f"VXLAN {self.u32(at + 4) >> 8}", headers)
            return self.frame(ETHERNET, at + 8, "Ethernet")
        if ports[1] == protocols.GENEVE and not self.data[at] >> 6:
            self.tunnel(f"Geneve {self.u32(at + 4) >> 8}", headers)
            kind = self.u16(at + 2)
            return self.ethertype(kind, at + 8 + (self.data[at] & 0x3F) * 4)
        if protocols.GTP_U in ports and self.data[at] & 0xF0 == 0x30:
            return self.gtp(headers, at)
        return "UDP"

    def gtp(self, headers: IpHeaders, at: int) -> Located | str:
        """Tunnel identifiers differ by direction and are not told."""
        flags, kind = self.data[at], self.data[at + 1]
        if kind != 255:
            return "GTP control"
        at += 8
        if flags & 0x07:
            self.need(at + 4)
            following = self.data[at + 3] if flags & 0x04 else 0
            at += 4
            while following:
                self.need(at + 4)
                size = self.data[at] * 4
                if not size:
                    raise Malformed
                self.need(at + size)
                following = self.data[at + size - 1]
                at += size
        self.need(at + 1)
        self.tunnel("GTP-U", headers)
        version = self.data[at] >> 4
        return self.ip(at, version) if version in (4, 6) else unread("GTP-U without IP")

    def gre(self, headers: IpHeaders) -> Located | str:
        at = headers.transport
        self.need(at + 4)
        flags, kind = self.u16(at), self.u16(at + 2)
        at += 4
        if flags & 7 == 1 and kind == protocols.GRE_PPTP:
            return self.pptp(headers, at, flags)
        if flags & 0xC000:  # checksum and offset
            at += 4
        name = "GRE"
        if flags & 0x2000:
            self.need(at + 4)
            name = f"GRE key {self.u32(at)}"
            at += 4
        if flags & 0x1000:
            at += 4
        if kind in (protocols.ERSPAN, protocols.ERSPAN_III):
            self.tunnel("ERSPAN", headers)
            if kind == protocols.ERSPAN_III:
                self.need(at + 12)
                at += 20 if self.data[at + 11] & 1 else 12
            elif flags & 0x1000:  # type II, told from type I by its sequence number
                at += 8
            return self.frame(ETHERNET, at, "Ethernet")
        self.tunnel(name, headers)
        return self.ethertype(kind, at) if kind > protocols.LARGEST_LENGTH else unread("GRE")

    def pptp(self, headers: IpHeaders, at: int, flags: int) -> Located | str:
        """Call identifiers differ by direction and are not told."""
        at += 4 + (4 if flags & 0x1000 else 0) + (4 if flags & 0x80 else 0)
        if not flags & 0x1000:
            return "PPTP acknowledgment"
        self.tunnel("PPTP", headers)
        return self.ppp(at)


@lru_cache(4096)
def _tunnel_name(name: str, addresses: bytes) -> str:
    """With both ends of the tunnel, the same for both directions."""
    half = len(addresses) // 2
    ends = sorted((addresses[:half], addresses[half:]))
    return f"{name} {' - '.join(str(ip_address(end)) for end in ends)}"


def _in_brackets(names: dict[int, str], number: int) -> str:
    return f" ({names[number]})" if number in names else ""
