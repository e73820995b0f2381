"""Numbers and names of what captures hold, for what is read and for what is only named.

Link types: https://www.tcpdump.org/linktypes.html. The rest: IANA and IEEE registries.
"""

from __future__ import annotations

from typing import Final

# Link types beside those of `testbed.wire.frame`
PPP: Final = frozenset({9, 50, 166})  # 50: in HDLC-like framing; 166: behind a direction byte
PPP_WITH_DIRECTION: Final = 166
PPP_ETHER: Final = 51
ATM_RFC1483: Final = 100
CISCO_HDLC: Final = 104
NFLOG: Final = 239

# EtherTypes
VLAN: Final = "VLAN"  # its name, before its number, among what a flow is in
LARGEST_LENGTH: Final = 1500  # up to here the field is a length, and LLC follows
TRANSPARENT_ETHERNET: Final = 0x6558
PPPOE_SESSION: Final = 0x8864
MPLS: Final = frozenset({0x8847, 0x8848})
GRE_PPTP: Final = 0x880B
ERSPAN: Final = 0x88BE
ERSPAN_III: Final = 0x22EB

# IP protocols
IPV4_INSIDE: Final = 4
IPV6_INSIDE: Final = 41
GRE: Final = 47
MPLS_IN_IP: Final = 137

# UDP ports of tunnels
VXLAN: Final = frozenset({4789, 8472})  # 8472: Linux's before it was assigned
GENEVE: Final = 6081
GTP_U: Final = 2152

LINK_NAMES: Final = {
    6: "Token Ring", 7: "ARCNET", 8: "SLIP", 10: "FDDI", 107: "Frame Relay", 105: "IEEE 802.11",
    119: "IEEE 802.11, Prism", 127: "IEEE 802.11, radiotap", 143: "DOCSIS",
    163: "IEEE 802.11, AVS", 187: "Bluetooth HCI", 189: "USB", 192: "PPI", 195: "IEEE 802.15.4",
    197: "ERF", 201: "Bluetooth HCI", 220: "USB", 227: "CAN", 249: "USB", 253: "netlink",
    277: "Z-Wave",
}  # fmt: skip

ETHERTYPE_NAMES: Final = {
    0x0806: "ARP", 0x8035: "RARP", 0x8863: "PPPoE discovery", 0x8809: "LACP", 0x88CC: "LLDP",
    0x888E: "EAPOL", 0x8100: "VLAN", 0x8808: "MAC control", 0x88F7: "PTP", 0x9000: "loopback test",
}  # fmt: skip

IP_NAMES: Final = {
    0: "IPv6 without payload", 1: "ICMP", 2: "IGMP", 17: "UDP", 46: "RSVP", 50: "ESP (encrypted)",
    51: "AH", 58: "ICMPv6", 59: "IPv6 without payload", 88: "EIGRP", 89: "OSPF", 103: "PIM",
    112: "VRRP", 115: "L2TPv3", 132: "SCTP", 136: "UDP-Lite",
}  # fmt: skip

UNREAD: Final = "not read: "
"""How the name of a packet begins that may hold TCP in what this reader does not know."""


def unread(what: str) -> str:
    """The name of a packet of which the inside is not known."""
    return UNREAD + what
