"""Reading back what a namespace has: interfaces, addresses and routes.

A lab reads back everything that it sets, for every node, so messages are unpacked by their
fixed layout here. Source: include/uapi/linux/if_link.h, if_addr.h, rtnetlink.h.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Collection
from functools import cache

import msgspec
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from testbed.errors import ReadBackError
from testbed.kernel.netlink.rtnetlink import RTAX_RTO_MIN, TABLE_MAIN, Metrics
from testbed.kernel.netlink.socket import NLM_F_DUMP, Netlink, attributes, encode, pack
from testbed.kernel.processes.process import deadline_in, time_left

#: Links take milliseconds; the kernel queues this behind whatever else it does to interfaces, on a
#: busy machine the removal of hundreds of them.
CARRIER_SECONDS = 30.0
RTNLGRP_LINK = 1

_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE = 18, 22, 26
_IFF_UP = 1
_OPERSTATE_UP = 6
_DOWN = (2, 7)  # down, lower layer down
_BRIDGE_PORT_FORWARDING = 3
_RTN_UNICAST, _RTN_LOCAL = 1, 2
_TABLE_LOCAL = 255
_RTNLGRP_IPV6_ROUTE = 11  # told after the route is there, as news of the address are not
_RTEXT_FILTER_SKIP_STATS = 8

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_OPERSTATE = 1, 3, 4, 16
_IFLA_LINKINFO, _IFLA_STATS64, _IFLA_CARRIER = 18, 23, 33
_IFLA_INFO_KIND, _IFLA_INFO_SLAVE_DATA, _IFLA_BRPORT_STATE = 1, 5, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_METRICS = 1, 4, 5, 8
_RTAX = {
    "mtu": 2,
    "advmss": 8,
    "initcwnd": 11,
    "rto_min": RTAX_RTO_MIN,
    "initrwnd": 14,
}
_RTAX_LOCK, _RTAX_CC_ALGO = 1, 16


class InterfaceState(msgspec.Struct, frozen=True, kw_only=True):
    """An interface as the kernel has it.

    up: switched on by us; carrying: frames pass, which begins some time after both ends of a
    link are up, and for a port of a bridge only when the bridge forwards from it; linked: has a
    carrier, and the kernel has heard of it (RFC 2863, ifOperStatus).
    """

    index: int
    name: str
    mac: str
    mtu: int
    up: bool
    carrying: bool
    linked: bool


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """What has passed through an interface since it was made; rx is what came in."""

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    tx_dropped: int


class RouteEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A route as the kernel has it."""

    destination: str
    interface: int
    via: str | None
    metrics: Metrics


def _u32(data: bytes) -> int:
    return int(struct.unpack_from("=I", data)[0])


@cache
def _links_question() -> bytes:
    message = ifinfmsg()
    message["attrs"] = [["IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS]]
    return encode(_RTM_GETLINK, NLM_F_DUMP, message)


@cache
def _addresses_question() -> bytes:
    return encode(_RTM_GETADDR, NLM_F_DUMP, ifaddrmsg())


@cache
def _routes_question(family: int, table: int) -> bytes:
    message = rtmsg()
    message["family"] = family
    message["table"] = table
    return encode(_RTM_GETROUTE, NLM_F_DUMP, message)


def interfaces(netlink: Netlink) -> dict[str, InterfaceState]:
    """All interfaces of the namespace by name."""
    found = {}
    for payload in netlink.dump(_links_question()):
        index, flags = struct.unpack_from("=4xiI", payload)
        given = attributes(payload, 16)
        name = given[_IFLA_IFNAME].rstrip(b"\0").decode()
        found[name] = InterfaceState(
            index=index,
            name=name,
            mac=given.get(_IFLA_ADDRESS, b"").hex(":"),
            mtu=_u32(given[_IFLA_MTU]),
            up=bool(flags & _IFF_UP),
            carrying=_carrying(given),
            linked=bool(given[_IFLA_CARRIER][0]) and given[_IFLA_OPERSTATE][0] not in _DOWN,
        )
    return found


def await_carriers(netlink: Netlink, wanted: Collection[str]) -> dict[str, InterfaceState]:
    """All interfaces as they are when those `wanted` carry frames; they must be up.

    Raises `ReadBackError` after `CARRIER_SECONDS`.
    """
    return _await(
        netlink, wanted, lambda one: one.carrying, "it was set up, and it carries no frames"
    )


def await_plugged(netlink: Netlink, interface: str, plugged: bool) -> None:
    """Return when an interface whose cable was put in, or pulled out, has heard of that.

    Raises `ReadBackError` after `CARRIER_SECONDS`.
    """
    done = "put in, and there is no carrier" if plugged else "pulled out, and there is a carrier"
    _await(netlink, [interface], lambda one: one.linked == plugged, f"its cable was {done}")


def _await(
    netlink: Netlink, wanted: Collection[str], ready: Callable[[InterfaceState], bool], told: str
) -> dict[str, InterfaceState]:
    deadline = deadline_in(CARRIER_SECONDS)
    listening = False
    while True:
        found = interfaces(netlink)
        slow = [name for name in wanted if name not in found or not ready(found[name])]
        if not slow:
            return found
        if not listening:
            # What changed since the question was answered is asked for again.
            netlink.subscribe(RTNLGRP_LINK)
            listening = True
        elif not netlink.wait_for_change(time_left(deadline)):
            raise ReadBackError(f"the interface {slow[0]}: {CARRIER_SECONDS:g} s ago {told}.")


def traffic(netlink: Netlink, index: int) -> Traffic:
    """The counters of one interface."""
    payload = netlink.get(pack(_RTM_GETLINK, 0, struct.pack("=BxHiII", 0, 0, index, 0, 0)))
    counters = struct.unpack_from("=8Q", attributes(payload, 16)[_IFLA_STATS64])
    return Traffic(
        rx_packets=counters[0],
        tx_packets=counters[1],
        rx_bytes=counters[2],
        tx_bytes=counters[3],
        tx_dropped=counters[7],
    )


def _carrying(given: dict[int, bytes]) -> bool:
    info = attributes(given.get(_IFLA_LINKINFO, b""))
    port = attributes(info.get(_IFLA_INFO_SLAVE_DATA, b""))
    if port and port[_IFLA_BRPORT_STATE][0] != _BRIDGE_PORT_FORWARDING:
        return False
    if info.get(_IFLA_INFO_KIND, b"").startswith((b"veth", b"bridge")):
        # Its queue is put in place when the news of its carrier are worked off, and not before.
        return given[_IFLA_OPERSTATE][0] == _OPERSTATE_UP
    # A TUN or TAP has its carrier before it is set up, and its queue from then on; news of it,
    # which change nothing any more, can be seconds late on a busy machine (net/core/link_watch.c).
    return bool(given[_IFLA_CARRIER][0])


def addresses(netlink: Netlink) -> set[tuple[int, str]]:
    """(interface index, address in CIDR form) of every address in the namespace."""
    found = set()
    for payload in netlink.dump(_addresses_question()):
        length, index = payload[1], _u32(payload[4:])
        given = attributes(payload, 8)
        host = ipaddress.ip_address(given.get(_IFA_LOCAL) or given[_IFA_ADDRESS])
        found.add((index, f"{host}/{length}"))
    return found


def await_answering(netlink: Netlink, wanted: Collection[str]) -> None:
    """Return when the namespace takes packets to all these IPv6 addresses for its own.

    The kernel has an address some time before that: its worker adds the route to it later
    (addrconf_dad_work in net/ipv6/addrconf.c). Raises `ReadBackError` after `CARRIER_SECONDS`.
    """
    deadline = deadline_in(CARRIER_SECONDS)
    listening = False
    while missing := set(wanted) - _own_addresses(netlink):
        if not listening:
            netlink.subscribe(_RTNLGRP_IPV6_ROUTE)
            listening = True
        elif not netlink.wait_for_change(time_left(deadline)):
            raise ReadBackError(
                f"the address {min(missing)} takes no packets {CARRIER_SECONDS:g} s after it was "
                "set."
            )


def _own_addresses(netlink: Netlink) -> set[str]:
    found = set()
    for payload in netlink.dump(_routes_question(socket.AF_INET6, _TABLE_LOCAL)):
        if payload[7] == _RTN_LOCAL:
            found.add(str(ipaddress.ip_address(attributes(payload, 12)[_RTA_DST])))
    return found


def routes(netlink: Netlink, family: int) -> list[RouteEntry]:
    """The unicast routes of the main table."""
    nowhere = bytes(16 if family == socket.AF_INET6 else 4)
    found = []
    for payload in netlink.dump(_routes_question(family, TABLE_MAIN)):
        length, kind = payload[1], payload[7]
        if kind != _RTN_UNICAST:
            continue
        given = attributes(payload, 12)
        gateway = given.get(_RTA_GATEWAY)
        found.append(
            RouteEntry(
                destination=f"{ipaddress.ip_address(given.get(_RTA_DST, nowhere))}/{length}",
                interface=_u32(given[_RTA_OIF]) if _RTA_OIF in given else 0,
                via=str(ipaddress.ip_address(gateway)) if gateway else None,
                metrics=_metrics(attributes(given.get(_RTA_METRICS, b""))),
            )
        )
    return found


def _metrics(given: dict[int, bytes]) -> Metrics:
    numbers = {name: _u32(given[kind]) for name, kind in _RTAX.items() if kind in given}
    if not _u32(given.get(_RTAX_LOCK, bytes(4))) & 1 << RTAX_RTO_MIN:
        numbers.pop("rto_min", None)  # without its lock TCP does not heed it
    algorithm = given.get(_RTAX_CC_ALGO)
    return Metrics(
        **numbers, cc_algo=algorithm.rstrip(b"\0").decode() if algorithm is not None else None
    )
