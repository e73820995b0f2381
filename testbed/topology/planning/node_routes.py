"""The routes of each node: the planned ones, and those that the topology asks for."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from testbed.topology import names
from testbed.topology.broadcast_domains import LOOPBACK, BroadcastDomain, forwards, with_ipv6
from testbed.topology.model import Endpoint, Node, Route, RouteMetrics, Topology
from testbed.topology.planning.addressing import (
    BITS,
    BLOCKS,
    FAMILIES,
    Addressing,
    Prefix,
    address_text,
    nested_in,
    prefix_of,
)
from testbed.topology.planning.aggregate import aggregate, build_trie
from testbed.topology.planning.plan_model import PlannedRoute
from testbed.topology.planning.routing import Graph, NextHop
from testbed.topology.problems import Path, Problem
from testbed.wording import join, quote

DEFAULT: Final = {family: Prefix(0, 0, BITS[family]) for family in FAMILIES}


class _Hop(NamedTuple):
    """Where a route leads: out of an interface, to a next hop or (None) straight to the target."""

    interface: str
    via: int | None


class RoutePlanner:
    """Plans the routes of all nodes of one checked topology."""

    def __init__(
        self, topology: Topology, domains: Sequence[BroadcastDomain], addressing: Addressing
    ) -> None:
        self._topology = topology
        self._addressing = addressing
        self._own: dict[str, list[Endpoint]] = {}
        for domain in domains:
            for end in domain.interfaces:
                self._own.setdefault(end.node, []).append(end)
        subnets = addressing.subnets
        graph = Graph(topology, domains, subnets[4])
        of_ipv6 = [with_ipv6(topology, domain) for domain in domains]
        alike = subnets[4].keys() == subnets[6].keys() and of_ipv6 == list(domains)
        self._graphs = {4: graph, 6: graph if alike else Graph(topology, of_ipv6, subnets[6])}
        self._nested = {family: nested_in(subnets[family].values()) for family in FAMILIES}
        self._tries = {
            family: build_trie(subnets[family], BLOCKS[family])
            for family in FAMILIES
            if self._are_disjoint(family)
        }

    def _are_disjoint(self, family: int) -> bool:
        subnets = self._addressing.subnets[family].values()
        return not self._nested[family] and len(set(subnets)) == len(subnets)

    def effort(self) -> int:
        """How many steps it takes to plan all routes, roughly."""
        return sum(self._graphs[family].effort() for family in FAMILIES)

    def longest_path(self) -> int:
        """How many forwarding nodes a packet crosses at most."""
        crossed = [
            self._graphs[family].reach(name).farthest + 1
            for family in FAMILIES
            for name, node in self._topology.nodes.items()
            if forwards(node)
        ]
        return max(crossed, default=0)

    def routes(self, node: Node, problems: list[Problem]) -> tuple[PlannedRoute, ...]:
        """All routes that a plan lists for a node; faults of its own routes go to `problems`."""
        asked: dict[Prefix, tuple[_Hop, RouteMetrics]] = {}
        first: dict[Prefix, int] = {}
        for index, route in enumerate(node.routes):
            path: Path = ("nodes", node.name, "routes", index)
            mine = dict(self._asked(node, route, path, problems))
            twice = [destination for destination in mine if destination in asked]
            if twice:
                text = f"routes[{first[twice[0]]}] sets the route to {twice[0]} already"
                problems.append(Problem(path, f"{text}; put both into one"))
            asked |= {destination: (hop, route.metrics) for destination, hop in mine.items()}
            first |= dict.fromkeys(mine, index)
        planned: dict[Prefix, tuple[_Hop, RouteMetrics]] = {}
        for family in FAMILIES:
            if node.congestion_control is not None:
                connected = self._connected(node.name, family)
                planned |= {prefix: (hop, RouteMetrics()) for prefix, hop in connected.items()}
            beyond = self._beyond(node, family)
            planned |= {prefix: (hop, RouteMetrics()) for prefix, hop in beyond.items()}
        every = planned | asked
        return tuple(
            _planned(destination, *every[destination], node.congestion_control)
            for destination in sorted(every, key=lambda prefix: _order(prefix, every[prefix][0]))
        )

    def _connected(self, name: str, family: int) -> dict[Prefix, _Hop]:
        subnets = self._addressing.subnets[family]
        found: dict[Prefix, _Hop] = {}
        for interface, domain in self._graphs[family].attached(name):
            if interface != LOOPBACK:
                found.setdefault(subnets[domain], _Hop(interface, None))
        return found

    def _beyond(self, node: Node, family: int) -> dict[Prefix, _Hop]:
        """Routes to what is not connected: a default route for a host with a single exit, else
        as few prefixes as tell the next hops apart. Where subnets overlap, each has its own."""
        graph = self._graphs[family]
        exits = graph.exits(node.name)
        default: dict[Prefix, _Hop] = {}
        if len(exits) == 1 and not forwards(node):
            default = {DEFAULT[family]: self._hop(exits[0], family)}
            if not graph.has_exceptions and not self._nested[family]:
                return default
        reach = graph.reach(node.name)
        trie = self._tries.get(family)
        if not reach.hops:
            return default
        if trie is not None and not default:
            table = aggregate(trie, reach.hops, reach.connected)
        else:
            table = {
                self._addressing.subnets[family][d]: number for d, number in reach.hops.items()
            }
        found = {
            prefix: self._hop(reach.next_hops[number], family) for prefix, number in table.items()
        }
        if not default:
            return found
        (usual,) = default.values()
        on_link = self._connected(node.name, family)
        return default | {
            prefix: hop
            for prefix, hop in found.items()
            if hop != usual or any(prefix.base in one for one in on_link)
        }

    def _hop(self, exit_: NextHop, family: int) -> _Hop:
        return _Hop(exit_.interface, self._addressing.addresses[exit_.neighbour][family][0])

    def _asked(
        self, node: Node, route: Route, path: Path, problems: list[Problem]
    ) -> Iterator[tuple[Prefix, _Hop]]:
        """The routes that one `routes:` entry stands for, in each family that it concerns."""
        found = 0
        whys: list[str] = []
        hops = self._via(node.name, route.via) if route.via is not None else None
        if hops is not None and not hops:
            why = f"{route.via} is on no link of {node.name}; a next hop must be a neighbour"
            problems.append(Problem((*path, "via"), why))
            return
        for destination in self._destinations(route.to):
            family = 4 if destination.bits == 32 else 6
            hop: _Hop | str | None
            if hops is not None:
                hop = hops.get(family)
            else:
                hop = self._planned_hop(node, destination, family)
            if isinstance(hop, _Hop):
                found += 1
                yield destination, hop
            elif hop:
                whys.append(hop)
        if not found:
            text = whys[0] if whys else f"{route.via} and {route.to} are of different families"
            problems.append(Problem((*path, "to"), text))

    def _destinations(self, to: str) -> list[Prefix]:
        if to == "default":
            return list(DEFAULT.values())
        if names.looks_like_address(to):
            return [prefix_of(ipaddress.ip_network(to))]
        return [
            Prefix(number, BITS[family], BITS[family])
            for family in FAMILIES
            for end in self._own.get(to, ())
            for number in self._addressing.addresses[end][family]
        ]

    def _via(self, name: str, via: str) -> dict[int, _Hop]:
        """The next hop that `via` names, by family; empty if it is no neighbour."""
        if names.looks_like_address(via):
            address = ipaddress.ip_address(via)
            for prefix, hop in self._connected(name, address.version).items():
                if int(address) in prefix:
                    return {address.version: _Hop(hop.interface, int(address))}
            return {}
        hops = {}
        for family in FAMILIES:
            own = {domain: interface for interface, domain in self._graphs[family].attached(name)}
            for interface, domain in self._graphs[family].attached(via):
                if domain in own and family not in hops:
                    address_of = self._addressing.addresses[Endpoint(via, interface)][family]
                    hops[family] = _Hop(own[domain], address_of[0])
        return hops

    def _planned_hop(self, node: Node, destination: Prefix, family: int) -> _Hop | str:
        """The hop that the plan has for all of a destination, or why there is no such hop."""
        exits = self._graphs[family].exits(node.name)
        if destination.length == 0:
            if len(exits) == 1:
                return self._hop(exits[0], family)
            neighbours = join(hop.neighbour.node for hop in exits)
            which = f"one of {neighbours}" if exits else "no neighbour of it forwards packets"
            return f"{node.name} needs a `via:` for a default route: {which}"
        table = self._connected(node.name, family) | self._beyond(node, family)
        covering = [prefix for prefix in table if _covers(prefix, destination)]
        hops = {table[prefix] for prefix in table if _covers(destination, prefix)}
        if covering:
            hops.add(table[max(covering, key=lambda prefix: prefix.length)])
        if len(hops) == 1:
            return hops.pop()
        if hops:
            return f"{destination} lies behind several next hops; give `via:` or a longer prefix"
        return f"there is no path from {node.name} to {quote(str(destination))}; give `via:`"


def _covers(prefix: Prefix, other: Prefix) -> bool:
    return prefix.length <= other.length and other.base in prefix


def _order(destination: Prefix, hop: _Hop) -> tuple[int, bool, int, int]:
    """IPv4 first; connected prefixes before those whose next hops they lead to."""
    return destination.bits, hop.via is not None, destination.base, destination.length


def _planned(
    destination: Prefix, hop: _Hop, metrics: RouteMetrics, congestion_control: str | None
) -> PlannedRoute:
    if metrics.congestion_control is None and congestion_control is not None:
        given = {name: getattr(metrics, name) for name in metrics.__struct_fields__}
        metrics = RouteMetrics(**{**given, "congestion_control": congestion_control})
    via = None if hop.via is None else address_text(hop.via, destination.bits)
    return PlannedRoute(
        destination=str(destination), interface=hop.interface, via=via, metrics=metrics
    )
