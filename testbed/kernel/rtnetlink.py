"""Links, addresses, routes, rules and neighbours as netlink requests.

Every function is pure: it returns a `Request` for `Netlink.execute`. Interfaces are named by
index: a lab chooses the indices itself, so that a whole node is set up in one batch.
Source: rtnetlink(7), include/uapi/linux/rtnetlink.h, if_link.h, fib_rules.h.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import msgspec
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from testbed.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Request,
    request,
)

RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH, RTM_NEWRULE = 16, 20, 24, 28, 32
LOOPBACK_INDEX = 1
TABLE_MAIN = 254
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


def family_of(address: str) -> int:
    """AF_INET or AF_INET6 of an address or prefix in text form."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def veth(a: LinkEnd, b: LinkEnd) -> Request:
    """Create a pair of virtual Ethernet interfaces, each in its own namespace (veth(4))."""
    peer = {
        "index": b.index,
        "attrs": [
            ["IFLA_IFNAME", b.name],
            ["IFLA_ADDRESS", b.mac],
            ["IFLA_MTU", b.mtu],
            ["IFLA_NET_NS_FD", b.namespace],
        ],
    }
    info = {
        "attrs": [
            ["IFLA_INFO_KIND", "veth"],
            ["IFLA_INFO_DATA", {"attrs": [["VETH_INFO_PEER", peer]]}],
        ]
    }
    message = ifinfmsg()
    message["index"] = a.index
    message["attrs"] = [
        ["IFLA_IFNAME", a.name],
        ["IFLA_ADDRESS", a.mac],
        ["IFLA_MTU", a.mtu],
        ["IFLA_NET_NS_FD", a.namespace],
        ["IFLA_LINKINFO", info],
    ]
    return request(
        RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, message, f"create the veth {a.name}-{b.name}"
    )


def bridge(name: str, index: int) -> Request:
    """Create a bridge without spanning tree: it forwards from the first frame on."""
    data = {"attrs": [["IFLA_BR_STP_STATE", 0], ["IFLA_BR_FORWARD_DELAY", 0]]}
    message = ifinfmsg()
    message["index"] = index
    message["attrs"] = [
        ["IFLA_IFNAME", name],
        ["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", "bridge"], ["IFLA_INFO_DATA", data]]}],
    ]
    return request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, message, f"create the bridge {name}")


def set_link(
    index: int,
    name: str,
    *,
    up: bool | None = None,
    master: int | None = None,
    mac: str | None = None,
    mtu: int | None = None,
    txqlen: int | None = None,
) -> Request:
    """Change an interface; `name` is for messages only, what is None stays as it is."""
    message = ifinfmsg()
    message["index"] = index
    if up is not None:
        message["flags"] = _IFF_UP if up else 0
        message["change"] = _IFF_UP
    given = [
        ("IFLA_MASTER", master),
        ("IFLA_ADDRESS", mac),
        ("IFLA_MTU", mtu),
        ("IFLA_TXQLEN", txqlen),
    ]
    message["attrs"] = [[key, value] for key, value in given if value is not None]
    return request(RTM_NEWLINK, 0, message, f"set up the interface {name}")


def add_address(index: int, name: str, address: str) -> Request:
    """Give an interface an address such as `10.0.0.1/24`; IPv6 without duplicate detection."""
    host, _, length = address.partition("/")
    message = ifaddrmsg()
    message["family"] = family_of(host)
    message["prefixlen"] = int(length)
    message["index"] = index
    message["attrs"] = [
        ["IFA_LOCAL", host],
        ["IFA_ADDRESS", host],
        ["IFA_FLAGS", _IFA_F_PERMANENT | (_IFA_F_NODAD if ":" in host else 0)],
    ]
    return request(
        RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, message, f"give {name} the address {address}"
    )


def add_route(
    destination: str,
    index: int,
    *,
    via: str | None = None,
    metrics: Metrics | None = None,
    table: int = TABLE_MAIN,
) -> Request:
    """Route `destination` (CIDR) through the interface, by a gateway or directly."""
    network = ipaddress.ip_network(destination)
    attributes: list[list[Any]] = [["RTA_OIF", index], ["RTA_TABLE", table]]
    if network.prefixlen:
        attributes.append(["RTA_DST", str(network.network_address)])
    if via is not None:
        attributes.append(["RTA_GATEWAY", via])
    elif network.version == 6:
        attributes.append(["RTA_PRIORITY", _IP6_RT_PRIO_ADDRCONF])
    if metrics is not None and (given := metrics.attributes()):
        attributes.append(["RTA_METRICS", {"attrs": given}])
    message = rtmsg()
    message["family"] = family_of(destination)
    message["dst_len"] = network.prefixlen
    message["table"] = table if table < 256 else 0
    message["proto"] = _RTPROT_STATIC
    message["type"] = _RTN_UNICAST
    on_link = via is None and network.version == 4
    message["scope"] = _RT_SCOPE_LINK if on_link else _RT_SCOPE_UNIVERSE
    message["attrs"] = attributes
    return request(
        RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_REPLACE,
        message,
        f"add the route to {destination}{f' via {via}' if via else ''}",
    )


def add_neighbour(index: int, address: str, mac: str) -> Request:
    """A permanent ARP or neighbour discovery entry."""
    message = ndmsg()
    message["family"] = family_of(address)
    message["ifindex"] = index
    message["state"] = _NUD_PERMANENT
    message["attrs"] = [["NDA_DST", address], ["NDA_LLADDR", mac]]
    return request(
        RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, message, f"add the neighbour {address}"
    )


def add_interface_rule(family: int, interface: str, table: int, priority: int) -> Request:
    """Packets that came in by `interface` are routed by `table` (ip-rule(8), `iif`)."""
    message = fibmsg()
    message["family"] = family
    message["table"] = table
    message["action"] = _FR_ACT_TO_TBL
    message["attrs"] = [
        ["FRA_IIFNAME", interface],
        ["FRA_TABLE", table],
        ["FRA_PRIORITY", priority],
    ]
    return request(
        RTM_NEWRULE,
        NLM_F_CREATE | NLM_F_EXCL,
        message,
        f"add the routing rule for packets from {interface}",
    )
