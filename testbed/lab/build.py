"""Turning a plan into namespaces, interfaces, addresses and routes, and reading them back."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Iterator, Sequence
from itertools import count, islice

from testbed.errors import KernelError, ReadBackError
from testbed.kernel import sysctl
from testbed.kernel.devices import tun
from testbed.kernel.devices.steering import open_steered
from testbed.kernel.namespace import Namespace
from testbed.kernel.netlink import ethtool, rtnetlink, state
from testbed.kernel.netlink.socket import Netlink, Request
from testbed.kernel.processes.process import deadline_in, time_left
from testbed.kernel.tcp_info import route_settings
from testbed.lab.defaults import PINNED_SYSCTLS
from testbed.topology.model import RouteMetrics
from testbed.topology.planning.plan_model import (
    PlannedInterface,
    PlannedLink,
    PlannedNode,
    PlannedRoute,
)

BRIDGE = "bridge"
#: Links take milliseconds; the kernel queues this behind whatever else it does to interfaces, on a
#: busy machine the removal of hundreds of them.
CARRIER_SECONDS = 30.0
_TAP_QUEUE = 10_000
# RFC 5737 and RFC 3849: an address that only a default route leads to.
_DOCUMENTATION_ADDRESS = {4: "192.0.2.1", 6: "2001:db8::1"}


class NamespaceDefaults:
    """What every new namespace of this lab needs, found out once, in a namespace just made."""

    def __init__(self, namespace: Namespace) -> None:
        with namespace.call(Netlink) as netlink:
            self.offloads = ethtool.Offloads(netlink)
        self.sysctls = namespace.call(sysctl.missing, PINNED_SYSCTLS)


class NodeBuilder:
    """One node under construction: its namespace and the index of each of its interfaces."""

    def __init__(
        self, planned: PlannedNode, namespace: Namespace, defaults: NamespaceDefaults
    ) -> None:
        self.planned = planned
        self.namespace = namespace
        self.defaults = defaults
        self.indices: dict[str, int] = {"lo": rtnetlink.LOOPBACK_INDEX}
        self.tap_fds: dict[str, int] = {}
        self.netlink = namespace.call(Netlink)

    @property
    def name(self) -> str:
        return self.planned.name

    def close_taps(self) -> None:
        """Close our copies of the TAP descriptors, after the emulator has its own."""
        while self.tap_fds:
            os.close(self.tap_fds.popitem()[1])

    def close(self) -> None:
        """End the construction."""
        self.close_taps()
        self.netlink.close()


@contextlib.contextmanager
def blame(where: str) -> Iterator[None]:
    """Begin the text of kernel errors with the node (or link) that they are about."""
    try:
        yield
    except KernelError as error:
        raise type(error)(f"{where}: {error}") from None


class IndexSource:
    """Interface indices, never the same twice in a lab.

    The two ends of a veth must differ in index: the kernel tells of a carrier at once only then,
    and up to a second late otherwise (net/core/link_watch.c, linkwatch_urgent_event).
    """

    def __init__(self) -> None:
        self._numbers = count(rtnetlink.LOOPBACK_INDEX + 1)

    def take(self, builder: NodeBuilder, interface: str) -> int:
        builder.indices[interface] = index = self.take_unnamed()
        return index

    def take_unnamed(self) -> int:
        """For an interface that belongs to no node."""
        return next(self._numbers)


def prepare(builder: NodeBuilder) -> None:
    """Set the sysctls, before any interface copies them."""
    with _blame_node(builder):
        builder.namespace.call(
            sysctl.write, {**builder.defaults.sysctls, **builder.planned.sysctls}
        )


def veth_request(
    link: PlannedLink, builders: dict[str, NodeBuilder], indices: IndexSource
) -> Request:
    """The request that joins two nodes by a cable."""
    return rtnetlink.veth(*cable_ends(link, builders, indices))


def cable_ends(
    link: PlannedLink, builders: dict[str, NodeBuilder], indices: IndexSource
) -> tuple[rtnetlink.LinkEnd, rtnetlink.LinkEnd]:
    """The interfaces of a link, as ends of cables that are still to be made."""

    def end(planned: PlannedInterface) -> rtnetlink.LinkEnd:
        builder = builders[planned.node]
        return rtnetlink.LinkEnd(
            namespace=builder.namespace.fileno(),
            name=planned.name,
            index=indices.take(builder, planned.name),
            mac=planned.mac,
            mtu=planned.mtu,
        )

    return end(link.a), end(link.b)


def open_taps(
    link: PlannedLink,
    builders: dict[str, NodeBuilder],
    indices: IndexSource,
    receivers: Sequence[int] = (),
) -> str | None:
    """Make the interfaces of an emulated link; their descriptors wait in `tap_fds`.

    What comes in by each is steered to one of the processors `receivers`, if there are any: to one
    alone, so that no packet overtakes another. Why none of it is, where it should be, or None.
    """
    refusals = []
    for planned in (link.a, link.b):
        builder = builders[planned.node]
        index = indices.take(builder, planned.name)
        with _blame_node(builder):
            if receivers:
                cpu = receivers[index % len(receivers)]
                fd, refusal = builder.namespace.call(
                    open_steered, tun.open_tap, planned.name, index, (cpu,)
                )
                refusals.append(refusal)
            else:
                fd = builder.namespace.call(tun.open_tap, planned.name, index)
            builder.tap_fds[planned.name] = fd
    return refusals[0] if refusals and all(refusals) else None


def configure(builder: NodeBuilder, extra: list[Request]) -> None:
    """Offloads; then addresses, neighbours, routes and `extra`, in one batch."""
    planned = builder.planned
    requests = [rtnetlink.set_link(rtnetlink.LOOPBACK_INDEX, "lo", up=True)]
    requests += _bridge_requests(builder) if planned.kind == "switch" else []
    for interface in planned.interfaces:
        requests += _interface_requests(builder, interface)
    requests += [
        rtnetlink.add_neighbour(builder.indices[one.interface], one.address, one.mac)
        for one in planned.neighbours
    ]
    requests += [_route_request(builder, route) for route in planned.routes]
    with _blame_node(builder):
        for interface in planned.interfaces:
            # Before it is up, when fewer have to be told.
            if not interface.offload and interface.name not in builder.tap_fds:
                builder.defaults.offloads.disable(builder.netlink, interface.name)
        builder.netlink.execute(requests + extra)


def _bridge_requests(builder: NodeBuilder) -> list[Request]:
    index = max(builder.indices.values()) + 1
    builder.indices[BRIDGE] = index
    mtu = min((interface.mtu for interface in builder.planned.interfaces), default=1500)
    return [
        rtnetlink.bridge(BRIDGE, index),
        rtnetlink.set_link(index, BRIDGE, up=True, mtu=mtu),
    ]


def _interface_requests(builder: NodeBuilder, interface: PlannedInterface) -> list[Request]:
    index = builder.indices[interface.name]
    master = builder.indices[BRIDGE] if builder.planned.kind == "switch" else None
    if interface.name in builder.tap_fds:
        settings = rtnetlink.set_link(
            index,
            interface.name,
            mac_address=interface.mac,
            mtu=interface.mtu,
            txqlen=_TAP_QUEUE,
            master=master,
            up=True,
        )
    else:
        settings = rtnetlink.set_link(index, interface.name, master=master, up=True)
    return [
        settings,
        *(rtnetlink.add_address(index, interface.name, address) for address in interface.addresses),
    ]


def kernel_metrics(metrics: RouteMetrics) -> rtnetlink.Metrics:
    """The metrics in the kernel's units: rto_min in whole milliseconds."""
    rto_min = metrics.rto_min
    return rtnetlink.Metrics(
        rto_min=None if rto_min is None else max(1, round(rto_min * 1000)),
        initcwnd=metrics.initcwnd,
        initrwnd=metrics.initrwnd,
        advmss=metrics.advmss,
        mtu=metrics.mtu,
        cc_algo=metrics.congestion_control,
    )


def _route_request(builder: NodeBuilder, route: PlannedRoute) -> Request:
    return rtnetlink.add_route(
        route.destination,
        builder.indices[route.interface],
        via=route.via,
        metrics=kernel_metrics(route.metrics),
    )


def verify(builder: NodeBuilder) -> None:
    """Compare what the namespace has with the plan, once its links carry frames.

    Raises `ReadBackError` for the first difference.
    """
    with _blame_node(builder):
        _verify_interfaces(builder, _await_carrier(builder))
        if builder.planned.routes:
            _verify_routes(builder)
        if builder.planned.congestion_control is not None:
            builder.namespace.call(_verify_congestion_control, builder.planned)


def _await_carrier(builder: NodeBuilder) -> dict[str, state.InterfaceState]:
    """The interfaces as they are when all of them carry frames."""
    deadline = deadline_in(CARRIER_SECONDS)
    wanted = [interface.name for interface in builder.planned.interfaces]
    listening = False
    while True:
        found = state.interfaces(builder.netlink)
        idle = [name for name in wanted if name not in found or not found[name].carrying]
        if not idle:
            return found
        if not listening:
            # What changed since the question was answered is asked for again.
            builder.netlink.subscribe(state.RTNLGRP_LINK)
            listening = True
        elif not builder.netlink.wait_for_change(time_left(deadline)):
            raise ReadBackError(
                f"the interface {idle[0]} carries no frames {CARRIER_SECONDS:g} s after it was "
                "set up."
            )


def _verify_interfaces(builder: NodeBuilder, interfaces: dict[str, state.InterfaceState]) -> None:
    addresses = state.addresses(builder.netlink)
    for planned in builder.planned.interfaces:
        found = interfaces[planned.name]
        _compare(f"MAC address of {planned.name}", planned.mac, found.mac)
        _compare(f"MTU of {planned.name}", planned.mtu, found.mtu)
        for address in planned.addresses:
            if (found.index, str(ipaddress.ip_interface(address))) not in addresses:
                raise ReadBackError(f"the address {address} of {planned.name} is not there.")


def _verify_routes(builder: NodeBuilder) -> None:
    wanted_families = {rtnetlink.family_of(route.destination) for route in builder.planned.routes}
    found = {
        (route.destination, route.via): route
        for family in wanted_families
        for route in state.routes(builder.netlink, family)
    }
    for planned in builder.planned.routes:
        route = found.get((planned.destination, planned.via))
        if route is None or route.interface != builder.indices[planned.interface]:
            raise ReadBackError(
                f"the route to {planned.destination} through {planned.interface} is not there."
            )
        wanted = kernel_metrics(planned.metrics)
        _compare(f"metrics of the route to {planned.destination}", wanted, route.metrics)


def _verify_congestion_control(planned: PlannedNode) -> None:
    """Ask a real socket for each route: an attribute that is set need not be one that is used."""
    own = {address.split("/")[0] for each in planned.interfaces for address in each.addresses}
    networks = {ipaddress.ip_network(route.destination): route for route in planned.routes}
    for network in networks:
        candidates = [str(host) for host in islice(network.hosts(), 4) if str(host) not in own]
        if network.prefixlen == 0:
            candidates = [_DOCUMENTATION_ADDRESS[network.version]]
        address = ipaddress.ip_address((candidates or [str(network.network_address)])[0])
        if str(address) in own:
            continue
        covering = [one for one in networks if one.version == address.version and address in one]
        route = networks[max(covering, key=lambda one: one.prefixlen)]
        _compare(
            f"congestion control of a connection to {address}",
            route.metrics.congestion_control or planned.congestion_control,
            route_settings(str(address)).congestion_control,
        )


def _compare(what: str, wanted: object, found: object) -> None:
    if wanted != found:
        raise ReadBackError(f"{what}: asked for {wanted}, the kernel has {found}.")


def _blame_node(builder: NodeBuilder) -> contextlib.AbstractContextManager[None]:
    return blame(f"node '{builder.name}'")
