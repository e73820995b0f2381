"""Plans a topology: decides every interface, address, route and setting. Pure and fast."""

from __future__ import annotations

from typing import Final

from testbed.errors import InvalidValue, TopologyError
from testbed.topology import kinds
from testbed.topology.broadcast_domains import (
    LOOPBACK,
    find_broadcast_domains,
    forwards,
    has_addresses,
    regions,
)
from testbed.topology.checks.topology import check
from testbed.topology.model import Endpoint, Interface, Node, Topology
from testbed.topology.planning.addressing import Addressing, assign
from testbed.topology.planning.matches import schedule_with_addresses, with_addresses
from testbed.topology.planning.node_routes import RoutePlanner
from testbed.topology.planning.plan_model import (
    Plan,
    PlannedInterface,
    PlannedLink,
    PlannedNeighbour,
    PlannedNode,
    PlannedRoute,
)
from testbed.topology.problems import Problem, refuse

# The kernel starts with 64 (IPDEFTTL in include/uapi/linux/ip.h); the field has 8 bits.
USUAL_HOPS: Final = 60
MAX_TTL: Final = 255
MAX_EFFORT: Final = 20_000_000  # ten to twenty seconds
_FORWARDING: Final = {"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"}
_LONG_PATHS: Final = {
    "net.ipv4.ip_default_ttl": str(MAX_TTL),
    "net.ipv6.conf.all.hop_limit": str(MAX_TTL),
    "net.ipv6.conf.default.hop_limit": str(MAX_TTL),
}


def plan(topology: Topology) -> Plan:
    """The plan of a topology; equal topologies have equal plans.

    Raises TopologyError with all faults if the topology cannot be built.
    """
    check(topology)
    domains = find_broadcast_domains(topology)
    addressing = assign(topology, domains)
    interfaces = _interfaces(topology, addressing, regions(topology, domains))
    planner = RoutePlanner(topology, domains, addressing)
    longest = _longest_path(planner)
    problems: list[Problem] = []
    routes = {
        name: planner.routes(node, problems) if has_addresses(node) else ()
        for name, node in topology.nodes.items()
    }
    if problems:
        raise refuse(str(problem) for problem in problems)
    loopback = {
        name: addressing.in_cidr_form(end)
        for name in topology.nodes
        if (end := Endpoint(name, LOOPBACK)) in addressing.domain_of
    }
    return _assemble(topology, interfaces, routes, loopback, longest)


def _longest_path(planner: RoutePlanner) -> int:
    """Forwarding nodes on the longest path. Raises TopologyError if there is no planning (in
    reasonable time) or no crossing (with any TTL) such a network."""
    if planner.effort() > MAX_EFFORT:
        text = (
            "there are too many ways through this network to plan its routes: too many routers "
            "and hosts with several exits, each times too many subnets; join hosts by switches"
        )
        raise TopologyError([text])
    longest = planner.longest_path()
    if longest >= MAX_TTL:
        text = f"a packet would cross {longest} routers, and its TTL allows {MAX_TTL - 1}"
        raise TopologyError([f"{text}; shorten the longest path"])
    return longest


def _interfaces(
    topology: Topology, addressing: Addressing, private: dict[int, int]
) -> dict[Endpoint, PlannedInterface]:
    """The planned interfaces, in order of the links; private: domain -> region."""
    planned = {}
    for index, link in enumerate(topology.links):
        for position, end in enumerate(link.endpoints):
            settings = topology.nodes[end.node].interfaces.get(end.interface, Interface())
            planned[end] = PlannedInterface(
                node=end.node,
                name=end.interface,
                mac=_mac(2 * index + position + 1),
                mtu=link.mtu,
                offload=link.offload,
                addresses=addressing.in_cidr_form(end),
                vlan=settings.vlan,
                vlans=settings.vlans,
                region=private.get(addressing.domain_of.get(end, -1)),
            )
    return planned


def _mac(number: int) -> str:
    """A locally administered unicast address (IEEE 802, the second bit of the first byte)."""
    return ":".join(f"{byte:02x}" for byte in (2, 0, *number.to_bytes(4, "big")))


def _assemble(
    topology: Topology,
    interfaces: dict[Endpoint, PlannedInterface],
    routes: dict[str, tuple[PlannedRoute, ...]],
    loopback: dict[str, tuple[str, ...]],
    longest: int,
) -> Plan:
    own: dict[str, list[PlannedInterface]] = {name: [] for name in topology.nodes}
    neighbours: dict[str, list[PlannedNeighbour]] = {name: [] for name in topology.nodes}
    sides: dict[str, dict[str, str]] = {name: {} for name in topology.nodes}

    def addresses_of(node: str) -> tuple[str, ...]:
        of_links = (
            one for end, found in interfaces.items() if end.node == node for one in found.addresses
        )
        return tuple(one.split("/")[0] for one in (*of_links, *loopback.get(node, ())))

    links = []
    for index, link in enumerate(topology.links):
        a, b = (interfaces[end] for end in link.endpoints)
        for here, there in ((a, b), (b, a)):
            own[here.node].append(here)
            sides[here.node][here.name] = there.node
            neighbours[here.node].extend(_permanent(here, there))
        try:
            forward = with_addresses(link.forward, addresses_of)
            reverse = with_addresses(link.reverse, addresses_of)
            schedule = schedule_with_addresses(link.schedule, addresses_of)
        except InvalidValue as error:
            raise refuse([str(Problem(("links", index), str(error)))]) from None
        links.append(
            PlannedLink(
                a=a,
                b=b,
                forward=forward,
                reverse=reverse,
                offload=link.offload,
                emulated=link.needs_emulator,
                schedule=schedule,
                log=link.log,
            )
        )
    nodes = {
        name: PlannedNode(
            name=name,
            kind=node.kind,
            interfaces=tuple(own[name]),
            routes=routes[name],
            neighbours=tuple(neighbours[name]),
            sysctls=_sysctls(node, longest),
            congestion_control=node.congestion_control,
            outside=_outside(node, sides[name]),
            loopback=loopback.get(name, ()),
        )
        for name, node in topology.nodes.items()
    }
    return Plan(topology=topology, nodes=nodes, links=tuple(links), captures=topology.captures)


def _outside(node: Node, neighbours: dict[str, str]) -> tuple[str, ...]:
    kind = kinds.find(node.kind)
    return kind.outside(node, neighbours) if kind is not None else ()


def _permanent(here: PlannedInterface, there: PlannedInterface) -> list[PlannedNeighbour]:
    """Entries of `here` for the other end; none where either end is a switch (no addresses)."""
    if not here.addresses:
        return []
    families = {":" in address for address in here.addresses}
    return [
        PlannedNeighbour(interface=here.name, address=address.split("/")[0], mac=there.mac)
        for address in there.addresses
        if (":" in address) in families
    ]


def _sysctls(node: Node, longest: int) -> dict[str, str]:
    planned = dict(_FORWARDING) if forwards(node) else {}
    if longest > USUAL_HOPS and has_addresses(node):
        planned |= _LONG_PATHS
    return planned | node.sysctls
