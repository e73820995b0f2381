"""Links, addresses, routes, rules and neighbours as netlink requests.

Every function is pure: it returns a `Request` for `Netlink.execute`. Interfaces are named by
index: a lab chooses the indices itself, so that a whole node is set up in one batch. What is the
same in many requests is a cached `Shape`.
Source: rtnetlink(7), include/uapi/linux/rtnetlink.h, if_link.h, fib_rules.h.
"""

from __future__ import annotations

import socket
from functools import cache
from typing import Any

import msgspec
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from testbed.kernel.netlink.shape import (
    ADDRESSES,
    MACS,
    NAMES,
    NUMBERS,
    Shape,
    address,
    mac,
    name,
    number,
)
from testbed.kernel.netlink.socket import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request, encode

RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH, RTM_NEWRULE, RTM_DELRULE = (
    16, 20, 24, 28, 32, 33,
)  # fmt: skip
LOOPBACK_INDEX = 1
TABLE_MAIN = 254
TABLE_LOCAL = 255
RTAX_RTO_MIN = 13

_IFF_UP = 1
_IFA_F_NODAD = 0x02
_IFA_F_PERMANENT = 0x80
_NUD_PERMANENT = 0x80
_RTPROT_STATIC = 4
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RTN_UNICAST = 1
_FR_ACT_TO_TBL = 1
# The priority of connected IPv6 routes (include/net/ip6_route.h): ours must replace, not join.
_IP6_RT_PRIO_ADDRCONF = 256


class LinkEnd(msgspec.Struct, frozen=True, kw_only=True):
    """One end of a virtual cable: where it goes, and what it is called there.

    namespace: descriptor; index: the interface index to be given to it; mac: aa:bb:...
    """

    namespace: int
    name: str
    index: int
    mac: str
    mtu: int = 1500


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Per-route TCP settings (RTAX_*): rto_min in milliseconds, the others in their own units."""

    rto_min: int | None = None
    initcwnd: int | None = None
    initrwnd: int | None = None
    advmss: int | None = None
    mtu: int | None = None
    cc_algo: str | None = None

    def attributes(self) -> list[list[Any]]:
        # TCP heeds a minimum RTO only where the metric is locked (tcp_rto_min in tcp.h).
        lock = [["RTAX_LOCK", 1 << RTAX_RTO_MIN]] if self.rto_min is not None else []
        return lock + [
            [f"RTAX_{field.upper()}", value]
            for field in self.__struct_fields__
            if (value := getattr(self, field)) is not None
        ]


def family_of(text: str) -> int:
    """AF_INET or AF_INET6 of an address or prefix in text form."""
    return socket.AF_INET6 if ":" in text else socket.AF_INET


@cache
def _veth_shape(mtu_a: int, mtu_b: int) -> Shape:
    peer = {
        "index": NUMBERS[1],
        "attrs": [
            ["IFLA_IFNAME", NAMES[1]],
            ["IFLA_ADDRESS", MACS[1]],
            ["IFLA_MTU", mtu_b],
            ["IFLA_NET_NS_FD", NUMBERS[3]],
        ],
    }
    info = {
        "attrs": [
            ["IFLA_INFO_KIND", "veth"],
            ["IFLA_INFO_DATA", {"attrs": [["VETH_INFO_PEER", peer]]}],
        ]
    }
    message = ifinfmsg()
    message["index"] = NUMBERS[0]
    message["attrs"] = [
        ["IFLA_IFNAME", NAMES[0]],
        ["IFLA_ADDRESS", MACS[0]],
        ["IFLA_MTU", mtu_a],
        ["IFLA_NET_NS_FD", NUMBERS[2]],
        ["IFLA_LINKINFO", info],
    ]
    marks = [*map(number, NUMBERS), *map(name, NAMES), *map(mac, MACS)]
    return Shape(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, message, marks)


def veth(a: LinkEnd, b: LinkEnd) -> Request:
    """Create a pair of virtual Ethernet interfaces, each in its own namespace (veth(4))."""
    data = _veth_shape(a.mtu, b.mtu).fill(
        number(a.index),
        number(b.index),
        number(a.namespace),
        number(b.namespace),
        name(a.name),
        name(b.name),
        mac(a.mac),
        mac(b.mac),
    )
    return Request(data, f"create the veth {a.name}-{b.name}")


@cache
def _bridge_shape() -> Shape:
    data = {"attrs": [["IFLA_BR_STP_STATE", 0], ["IFLA_BR_FORWARD_DELAY", 0]]}
    message = ifinfmsg()
    message["index"] = NUMBERS[0]
    message["attrs"] = [
        ["IFLA_IFNAME", NAMES[0]],
        ["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", "bridge"], ["IFLA_INFO_DATA", data]]}],
    ]
    marks = [number(NUMBERS[0]), name(NAMES[0])]
    return Shape(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, message, marks)


def bridge(bridge_name: str, index: int) -> Request:
    """Create a bridge without spanning tree: it forwards from the first frame on."""
    data = _bridge_shape().fill(number(index), name(bridge_name))
    return Request(data, f"create the bridge {bridge_name}")


@cache
def _vlan_shape(vlan: int) -> Shape:
    info = [["IFLA_INFO_KIND", "vlan"], ["IFLA_INFO_DATA", {"attrs": [["IFLA_VLAN_ID", vlan]]}]]
    message = ifinfmsg()
    message["index"] = NUMBERS[0]
    message["attrs"] = [
        ["IFLA_IFNAME", NAMES[0]],
        ["IFLA_LINK", NUMBERS[1]],
        ["IFLA_LINKINFO", {"attrs": info}],
    ]
    marks = [number(NUMBERS[0]), number(NUMBERS[1]), name(NAMES[0])]
    return Shape(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, message, marks)


def vlan_interface(interface: str, index: int, below: int, vlan: int) -> Request:
    """Create an interface for the frames of a VLAN with tags (Documentation/networking, 8021q).

    below: the index of the interface by which they come.
    """
    data = _vlan_shape(vlan).fill(number(index), number(below), name(interface))
    what = f"create {interface} for VLAN {vlan} (that takes 8021q, which the kernels of"
    return Request(data, f"{what} `--clock virtual` and `--kernel uml` have)")


@cache
def _link_shape(
    up: bool | None, enslaved: bool, named_mac: bool, mtu: int | None, txqlen: int | None
) -> Shape:
    message = ifinfmsg()
    message["index"] = NUMBERS[0]
    if up is not None:
        message["flags"] = _IFF_UP if up else 0
        message["change"] = _IFF_UP
    given = [
        ("IFLA_MASTER", NUMBERS[1] if enslaved else None),
        ("IFLA_ADDRESS", MACS[0] if named_mac else None),
        ("IFLA_MTU", mtu),
        ("IFLA_TXQLEN", txqlen),
    ]
    message["attrs"] = [[key, value] for key, value in given if value is not None]
    marks = [number(NUMBERS[0])]
    marks += [number(NUMBERS[1])] if enslaved else []
    marks += [mac(MACS[0])] if named_mac else []
    return Shape(RTM_NEWLINK, 0, message, marks)


def set_link(
    index: int,
    interface: str,
    *,
    up: bool | None = None,
    master: int | None = None,
    mac_address: str | None = None,
    mtu: int | None = None,
    txqlen: int | None = None,
) -> Request:
    """Change an interface; its name is for messages only, what is None stays as it is."""
    values = [number(index)]
    if master is not None:
        values.append(number(master))
    if mac_address is not None:
        values.append(mac(mac_address))
    shape = _link_shape(up, master is not None, mac_address is not None, mtu, txqlen)
    return Request(shape.fill(*values), f"set up the interface {interface}")


@cache
def _address_shape(family: int, length: int) -> Shape:
    host = ADDRESSES[family][0]
    message = ifaddrmsg()
    message["family"] = family
    message["prefixlen"] = length
    message["index"] = NUMBERS[0]
    message["attrs"] = [
        ["IFA_LOCAL", host],
        ["IFA_ADDRESS", host],
        ["IFA_FLAGS", _IFA_F_PERMANENT | (_IFA_F_NODAD if family == socket.AF_INET6 else 0)],
    ]
    marks = [number(NUMBERS[0]), address(family, host)]
    return Shape(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, message, marks)


def add_address(index: int, interface: str, cidr: str) -> Request:
    """Give an interface an address such as `10.0.0.1/24`; IPv6 without duplicate detection."""
    host, _, length = cidr.partition("/")
    family = family_of(host)
    data = _address_shape(family, int(length)).fill(number(index), address(family, host))
    return Request(data, f"give {interface} the address {cidr}")


@cache
def _route_shape(
    family: int, length: int, through_gateway: bool, metrics: Metrics | None, table: int
) -> Shape:
    attributes: list[list[Any]] = [["RTA_OIF", NUMBERS[0]], ["RTA_TABLE", table]]
    marks = [number(NUMBERS[0])]
    if length:
        attributes.append(["RTA_DST", ADDRESSES[family][0]])
        marks.append(address(family, ADDRESSES[family][0]))
    if through_gateway:
        attributes.append(["RTA_GATEWAY", ADDRESSES[family][1]])
        marks.append(address(family, ADDRESSES[family][1]))
    elif family == socket.AF_INET6:
        attributes.append(["RTA_PRIORITY", _IP6_RT_PRIO_ADDRCONF])
    if metrics is not None and (given := metrics.attributes()):
        attributes.append(["RTA_METRICS", {"attrs": given}])
    message = rtmsg()
    message["family"] = family
    message["dst_len"] = length
    message["table"] = table if table < 256 else 0
    message["proto"] = _RTPROT_STATIC
    message["type"] = _RTN_UNICAST
    on_link = not through_gateway and family == socket.AF_INET
    message["scope"] = _RT_SCOPE_LINK if on_link else _RT_SCOPE_UNIVERSE
    message["attrs"] = attributes
    return Shape(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, message, marks)


def add_route(
    destination: str,
    index: int,
    *,
    via: str | None = None,
    metrics: Metrics | None = None,
    table: int = TABLE_MAIN,
) -> Request:
    """Route `destination` (CIDR) through the interface, by a gateway or directly."""
    network, _, length = destination.partition("/")
    family = family_of(destination)
    values = [number(index)]
    if int(length):
        values.append(address(family, network))
    if via is not None:
        values.append(address(family, via))
    shape = _route_shape(family, int(length), via is not None, metrics, table)
    purpose = f"add the route to {destination}{f' via {via}' if via else ''}"
    return Request(shape.fill(*values), purpose)


@cache
def _neighbour_shape(family: int) -> Shape:
    host = ADDRESSES[family][0]
    message = ndmsg()
    message["family"] = family
    message["ifindex"] = NUMBERS[0]
    message["state"] = _NUD_PERMANENT
    message["attrs"] = [["NDA_DST", host], ["NDA_LLADDR", MACS[0]]]
    marks = [number(NUMBERS[0]), address(family, host), mac(MACS[0])]
    return Shape(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, message, marks)


def add_neighbour(index: int, host: str, mac_address: str) -> Request:
    """A permanent ARP or neighbour discovery entry."""
    family = family_of(host)
    data = _neighbour_shape(family).fill(number(index), address(family, host), mac(mac_address))
    return Request(data, f"add the neighbour {host}")


@cache
def _rule_shape(
    family: int,
    table: int,
    priority: int,
    *,
    to_host: bool = False,
    protocol: int | None = None,
    ports: str | None = None,
) -> Shape:
    message = fibmsg()
    message["family"] = family
    message["table"] = table
    message["action"] = _FR_ACT_TO_TBL
    given = [
        ("FRA_DST", ADDRESSES[family][0] if to_host else None),
        ("FRA_IIFNAME", NAMES[0]),
        ("FRA_IP_PROTO", protocol),
        ("FRA_DPORT_RANGE", ports),
        ("FRA_TABLE", table),
        ("FRA_PRIORITY", priority),
    ]
    message["attrs"] = [[key, value] for key, value in given if value is not None]
    marks = [name(NAMES[0])]
    if to_host:
        message["dst_len"] = 32 if family == socket.AF_INET else 128
        marks.insert(0, address(family, ADDRESSES[family][0]))
    return Shape(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, message, marks)


def add_interface_rule(family: int, interface: str, table: int, priority: int) -> Request:
    """Packets that came in by `interface` are routed by `table` (ip-rule(8), `iif`)."""
    return Request(
        _rule_shape(family, table, priority).fill(name(interface)),
        f"add the routing rule for packets from {interface}",
    )


def add_claim_rule(host: str, interface: str, protocol: int, table: int, priority: int) -> Request:
    """Packets of one protocol that came in by `interface` for the address `host` are routed by
    `table` (ip-rule(8), `iif`, `to`, `ipproto`)."""
    family = family_of(host)
    shape = _rule_shape(family, table, priority, to_host=True, protocol=protocol)
    return Request(
        shape.fill(address(family, host), name(interface)),
        f"add the routing rule for packets from {interface} to {host}",
    )


def add_icmp_rule(
    family: int, kind: int, codes: tuple[int, int], table: int, priority: int
) -> Request:
    """ICMP messages that the node itself makes are routed by `table`. codes: first and last.

    The kernel keeps type and code of a message where other protocols have the destination port
    (include/net/flow.h, union flowi_uli), which a rule can ask for.
    """
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    ports = ":".join(str(kind << 8 | code) for code in codes)
    shape = _rule_shape(family, table, priority, protocol=protocol, ports=ports)
    return Request(shape.fill(name("lo")), f"add the routing rule for ICMP messages of type {kind}")


def move_local_rule(family: int, priority: int) -> list[Request]:
    """Let the table of the node's own addresses be asked later than first (ip-rule(8))."""
    return [
        Request(
            encode(kind, flags, _local_rule(family, where)), f"{verb} the rule for the local table"
        )
        for kind, flags, where, verb in (
            (RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, priority, "add"),
            (RTM_DELRULE, 0, 0, "remove"),
        )
    ]


def _local_rule(family: int, priority: int) -> fibmsg:
    message = fibmsg()
    message["family"] = family
    message["table"] = TABLE_LOCAL
    message["action"] = _FR_ACT_TO_TBL
    message["attrs"] = [["FRA_TABLE", TABLE_LOCAL], ["FRA_PRIORITY", priority]]
    return message
