"""A middlebox node: a router whose forwarded packets take the way through a process of ours.

    outside interfaces -> rule -> TUN "tun-out" -> engine -> TUN "tun-in" -> main table -> inside

and the same the other way. What is addressed to the node itself never gets there: the local
table is asked first (ip-rule(8)), unless a function claims the node's own outside addresses: then
packets to them, from either side, take the way through the box too. Under load the engine sends by
a second TUN on each side, whose packets other processors take in
(`testbed.kernel.devices.steering`).

What the node's kernel has to say about a packet that the box has let go, such as Fragmentation
Needed, is about the packet as the functions have made it, and means nothing to its sender. So
these errors go back through the box, from the side that the packet was sent to (RFC 5508 section
4, RFC 1191): they are routed as the node routes everything else, but into the TUN of the opposite
side.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

from testbed.errors import LabError
from testbed.kernel import sysctl
from testbed.kernel.devices import tun
from testbed.kernel.devices.steering import open_steered
from testbed.kernel.netlink import rtnetlink
from testbed.kernel.netlink.socket import Request
from testbed.kernel.placement import Placement, in_words
from testbed.kernel.processes.control import Descriptor
from testbed.kernel.processes.helper import Helper
from testbed.lab.kinds.registry import builds
from testbed.lab.node import LabNode
from testbed.lab.node_builder import (
    IndexSource,
    NamespaceDefaults,
    NamespaceSource,
    NodeBuilder,
)
from testbed.middlebox.client import MiddleboxClient
from testbed.middlebox.messages import SideDevices, Start
from testbed.middlebox.registry import find
from testbed.topology.planning.plan_model import Plan, PlannedInterface, PlannedNode

OUTSIDE_TUN, INSIDE_TUN = "tun-out", "tun-in"
_STEERED_TUNS = {OUTSIDE_TUN: "tun-out-steered", INSIDE_TUN: "tun-in-steered"}

_TABLES = {OUTSIDE_TUN: 101, INSIDE_TUN: 102}
_ERRORS_TABLE = 103
_CLAIM_PRIORITY, _ERRORS_PRIORITY, _LOCAL_PRIORITY, _RULE_PRIORITY = 10, 20, 50, 100
# Type, and first and last code, of the errors about forwarded packets. Time Exceeded is not among
# them: the kernel finds that out before the box, which is one hop, has seen the packet.
_ERRORS: dict[int, tuple[tuple[int, tuple[int, int]], ...]] = {
    socket.AF_INET: ((3, (0, 1)), (3, (4, 4)), (3, (13, 13))),  # unreachable, too big, prohibited
    socket.AF_INET6: ((1, (0, 1)), (1, (3, 3)), (2, (0, 0))),
}
# Of the protocols that a function can tell the packets of. ARP must still be answered by the node:
# it asks for the route of a packet without a protocol (net/ipv4/arp.c, arp_process).
_CLAIMED_PROTOCOLS: dict[int, tuple[int, ...]] = {
    socket.AF_INET: (socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP),
    socket.AF_INET6: (socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMPV6),
}
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_DEFAULT_ROUTE = {socket.AF_INET: "0.0.0.0/0", socket.AF_INET6: "::/0"}
_TUN_QUEUE = 10_000
# Where the node has claimed addresses, its own connections begin at ports that a NAT leaves alone.
_LOCAL_PORTS, _UNCLAIMED_PORTS = "net.ipv4.ip_local_port_range", "61000 65535"


@builds("middlebox")
class MiddleboxBuilder(NodeBuilder):
    """Makes the TUN ends, the rules that lead packets into them, and the engine behind them."""

    helper_module = "testbed.middlebox.process"

    def __init__(
        self,
        planned: PlannedNode,
        plan: Plan,
        source: NamespaceSource,
        defaults: NamespaceDefaults,
        indices: IndexSource,
    ) -> None:
        super().__init__(planned, plan, source, defaults, indices)
        self.functions = plan.topology.nodes[planned.name].functions
        self._outside = self._addresses(outer=True)
        self._fds: list[int] = []
        self._steered: list[int] = []
        self._placement: Placement | None = None

    def start_helper(
        self, node: LabNode, helper: Helper, placement: Placement | None, directory: Path | None
    ) -> None:
        """Make the TUNs and start the engine on them."""
        self._fds += [
            self.namespace.call(tun.open_tun, name, self.take_index(name)) for name in _TABLES
        ]
        self.steering = in_words(placement)
        if placement is not None:
            self.steering = self._open_steered(placement)
        node.middlebox = self._start_engine(helper, directory)

    def _open_steered(self, placement: Placement) -> str:
        """Make the second TUNs, where that can be; in words."""
        for name in _STEERED_TUNS.values():
            index = self.take_index(name)
            opened = self.namespace.call(
                open_steered, tun.open_tun, name, index, placement.receivers
            )
            if opened.unsteered is not None:
                _close(self._steered)
                os.close(opened.fd)
                for each in _STEERED_TUNS.values():
                    self.indices.pop(each, None)
                return f"none: {opened.unsteered}"
            self._steered.append(opened.fd)
        self._placement = placement
        return in_words(placement)

    def requests_after(self) -> list[Request]:
        """What routes forwarded packets into the TUNs."""
        # What the box sends may come from the node's addresses, by devices that do not have them.
        names = (*_TABLES, *_STEERED_TUNS.values()) if self._steered else _TABLES
        settings = {f"net.ipv4.conf.{name}.accept_local": "1" for name in names}
        self.namespace.call(sysctl.write, settings)
        planned = self.planned
        largest = max(interface.mtu for interface in planned.interfaces)
        requests = [
            rtnetlink.set_link(index, name, mtu=largest, txqlen=_TUN_QUEUE, up=True)
            for name, index in self.indices.items()
            if name in _TABLES or name in _STEERED_TUNS.values()
        ]
        for name, table in _TABLES.items():
            index = self.indices[name]
            requests += [
                rtnetlink.add_route(_DEFAULT_ROUTE[family], index, table=table)
                for family in _FAMILIES
            ]
        for interface in planned.interfaces:
            table = _TABLES[self._side(interface)]
            requests += [
                rtnetlink.add_interface_rule(family, interface.name, table, _RULE_PRIORITY)
                for family in _FAMILIES
            ]
        return requests + self._error_requests() + self._claim_requests()

    def _side(self, interface: PlannedInterface) -> str:
        """The TUN that takes what comes in there."""
        return OUTSIDE_TUN if interface.name in self.planned.outside else INSIDE_TUN

    def _error_requests(self) -> list[Request]:
        """What leads the kernel's errors about packets from the box back into it."""
        opposite = {
            interface.name: INSIDE_TUN if self._side(interface) == OUTSIDE_TUN else OUTSIDE_TUN
            for interface in self.planned.interfaces
        }
        routes = {
            str(ipaddress.ip_interface(address).network): opposite[interface.name]
            for interface in self.planned.interfaces
            for address in interface.addresses
        }
        routes |= {route.destination: opposite[route.interface] for route in self.planned.routes}
        # What was sent from an address of the node's own is of a function that has claimed it.
        routes |= {str(ipaddress.ip_network(host)): OUTSIDE_TUN for host in self._outside}
        return [
            rtnetlink.add_route(destination, self.indices[device], table=_ERRORS_TABLE)
            for destination, device in routes.items()
        ] + [
            rtnetlink.add_icmp_rule(family, kind, codes, _ERRORS_TABLE, _ERRORS_PRIORITY)
            for family in _FAMILIES
            for kind, codes in _ERRORS[family]
        ]

    def _claim_requests(self) -> list[Request]:
        """What takes packets to addresses of the node's own into the box before it gets them."""
        if not any(find(one.name).claims_own_addresses for one in self.functions):
            return []
        # A packet for which a socket of the node's own was found early would not be led into the
        # box, but dropped (net/ipv4/ip_forward.c, ip_forward).
        ports = self.planned.sysctls.get(_LOCAL_PORTS, _UNCLAIMED_PORTS)
        self.namespace.call(sysctl.write, {"net.ipv4.ip_early_demux": "0", _LOCAL_PORTS: ports})
        requests = [
            request
            for family in _FAMILIES
            for request in rtnetlink.move_local_rule(family, _LOCAL_PRIORITY)
        ]
        return (
            requests
            + self._neighbour_requests()
            + [
                rtnetlink.add_claim_rule(
                    host, interface.name, protocol, _TABLES[self._side(interface)], _CLAIM_PRIORITY
                )
                for host in self._outside
                for interface in self.planned.interfaces
                for protocol in _CLAIMED_PROTOCOLS[rtnetlink.family_of(host)]
            ]
        )

    def _neighbour_requests(self) -> list[Request]:
        """The IPv6 neighbours on the outside: their answers to neighbour discovery, sent to a
        claimed address, would go the way of its other ICMPv6 packets."""
        networks = {
            ipaddress.IPv6Interface(address).network: self.indices[interface.name]
            for interface in self.planned.interfaces
            if interface.name in self.planned.outside
            for address in interface.addresses
            if ":" in address
        }
        others = (
            (ipaddress.IPv6Interface(address), interface.mac)
            for node in self.plan.nodes.values()
            for interface in node.interfaces
            for address in interface.addresses
            if ":" in address and node.name != self.name
        )
        return [
            rtnetlink.add_neighbour(networks[there.network], str(there.ip), mac)
            for there, mac in others
            if there.network in networks
        ]

    def _addresses(self, *, outer: bool) -> list[str]:
        planned = self.planned
        return [
            address.split("/")[0]
            for interface in planned.interfaces
            if (interface.name in planned.outside) == outer
            for address in interface.addresses
        ]

    def _start_engine(self, helper: Helper, captures: Path | None) -> MiddleboxClient:
        """Hand the TUNs to the engine's process, and a folder for logs beside the captures.

        Raises `LabError` when that folder cannot be made.
        """
        log_directory = None
        if captures is not None and any(find(one.name).keeps_log for one in self.functions):
            folder = _open_folder(captures / f"{self.name}-log")
            self._fds.append(folder)
            log_directory = Descriptor(folder)
        client = MiddleboxClient(helper.channel)
        client.start(
            Start(
                name=self.name,
                functions=self.functions,
                mtu=min(interface.mtu for interface in self.planned.interfaces),
                outside=self._devices(0, outer=True),
                inside=self._devices(1, outer=False),
                placement=self._placement,
                log_directory=log_directory,
            )
        )
        self._close_devices()
        return client

    def _devices(self, side: int, *, outer: bool) -> SideDevices:
        steered = Descriptor(self._steered[side]) if self._steered else None
        return SideDevices(
            Descriptor(self._fds[side]), tuple(self._addresses(outer=outer)), steered
        )

    def close(self) -> None:
        """End the construction."""
        self._close_devices()
        super().close()

    def _close_devices(self) -> None:
        """Close our copies of the descriptors, after the engine has its own."""
        _close(self._fds)
        _close(self._steered)


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


def _open_folder(path: Path) -> int:
    """A descriptor of a folder, which is made where there is none."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(
            f"The folder {path} for logs cannot be made: {os.strerror(error.errno or 0)}. Give a "
            "directory for captures that you may write to."
        ) from error
