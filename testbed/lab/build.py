"""Turning a plan into namespaces, interfaces, addresses and routes, and reading them back."""

from __future__ import annotations

import contextlib
import ipaddress
from itertools import islice

from testbed.errors import ReadBackError, blame
from testbed.kernel import sysctl
from testbed.kernel.netlink import rtnetlink, state
from testbed.kernel.netlink.socket import Request
from testbed.kernel.tcp_info import route_settings
from testbed.lab.node_builder import NodeBuilder
from testbed.topology.broadcast_domains import LOOPBACK
from testbed.topology.model import RouteMetrics
from testbed.topology.planning.plan_model import (
    PlannedInterface,
    PlannedLink,
    PlannedNode,
    PlannedRoute,
)

# RFC 5737 and RFC 3849: an address that only a default route leads to.
_DOCUMENTATION_ADDRESS = {4: "192.0.2.1", 6: "2001:db8::1"}


def prepare(builder: NodeBuilder) -> None:
    """Set the sysctls, before any interface copies them."""
    with _blame_node(builder):
        builder.namespace.call(sysctl.write, builder.sysctls)


def veth_request(link: PlannedLink, builders: dict[str, NodeBuilder]) -> Request:
    """The request that joins two nodes by a cable."""
    return rtnetlink.veth(*cable_ends(link, builders))


def cable_ends(
    link: PlannedLink,
    builders: dict[str, NodeBuilder],
    *,
    has_offloads: bool = True,
) -> tuple[rtnetlink.LinkEnd, rtnetlink.LinkEnd]:
    """The interfaces of a link, as ends of cables that are still to be made.

    has_offloads: whether their kernel will merge and split segments until told not to.
    """

    def end(planned: PlannedInterface) -> rtnetlink.LinkEnd:
        builder = builders[planned.node]
        if has_offloads and not planned.offload:
            builder.offloading.append(planned.name)
        return rtnetlink.LinkEnd(
            namespace=builder.namespace.fileno(),
            name=planned.name,
            index=builder.take_index(planned.name),
            mac=planned.mac,
            mtu=planned.mtu,
        )

    return end(link.a), end(link.b)


def configure(builder: NodeBuilder) -> None:
    """Offloads; then addresses, neighbours, routes and what the kind needs, in one batch."""
    planned = builder.planned
    requests = [rtnetlink.set_link(rtnetlink.LOOPBACK_INDEX, LOOPBACK, up=True)]
    requests += [
        rtnetlink.add_address(rtnetlink.LOOPBACK_INDEX, LOOPBACK, address)
        for address in planned.loopback
    ]
    requests += builder.requests_before()
    for interface in planned.interfaces:
        requests += _interface_requests(builder, interface)
    requests += [
        rtnetlink.add_neighbour(builder.indices[one.interface], one.address, one.mac)
        for one in planned.neighbours
    ]
    requests += [_route_request(builder, route) for route in planned.routes]
    requests += builder.requests_after()
    with _blame_node(builder):
        for name in builder.offloading:
            # Before it is up, when fewer have to be told.
            builder.defaults.offloads.disable(builder.netlink, name)
        builder.netlink.execute(requests)


def _interface_requests(builder: NodeBuilder, interface: PlannedInterface) -> list[Request]:
    index = builder.indices[interface.name]
    return [
        rtnetlink.set_link(
            index, interface.name, master=builder.master_of(interface.name), up=True
        ),
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
        wanted = [interface.name for interface in builder.planned.interfaces]
        _verify_interfaces(builder, state.await_carriers(builder.netlink, wanted))
        own = [*builder.planned.loopback]
        own += [address for one in builder.planned.interfaces for address in one.addresses]
        in_ipv6 = [str(ipaddress.ip_interface(one).ip) for one in own if ":" in one]
        if in_ipv6:
            state.await_answering(builder.netlink, in_ipv6)
        if builder.planned.routes:
            _verify_routes(builder)
        if builder.planned.congestion_control is not None:
            builder.namespace.call(_verify_congestion_control, builder.planned)


def _verify_interfaces(builder: NodeBuilder, interfaces: dict[str, state.InterfaceState]) -> None:
    addresses = state.addresses(builder.netlink)
    for address in builder.planned.loopback:
        if (rtnetlink.LOOPBACK_INDEX, address) not in addresses:
            raise ReadBackError(f"the address {address} of {LOOPBACK} is not there.")
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
