"""Shortest paths: by which neighbour each node reaches each broadcast domain.

A path counts the forwarding nodes on it (routers, middleboxes); hosts never forward, but to their
own loopback addresses. Private regions are reached from inside alone. Among equal
paths the neighbour that comes first in the topology wins, so that both directions tend to agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from testbed.topology.broadcast_domains import LOOPBACK, BroadcastDomain, forwards, regions
from testbed.topology.model import Endpoint, Topology


@dataclass(frozen=True)
class NextHop:
    """Where packets leave a node: its own interface, and the neighbour's in the same domain."""

    interface: str
    neighbour: Endpoint


@dataclass(frozen=True)
class Reach:
    """What a node reaches: hops are numbered in `next_hops`.

    hops: domain -> number of the next hop; connected: domains it is attached to;
    farthest: the number of forwarding nodes on the longest of its paths.
    """

    next_hops: tuple[NextHop, ...]
    hops: Mapping[int, int]
    connected: frozenset[int]
    farthest: int


class Graph:
    """Broadcast domains and the forwarding nodes between them, for one address family."""

    def __init__(
        self, topology: Topology, domains: Sequence[BroadcastDomain], usable: Iterable[int]
    ) -> None:
        """usable: the domains that have addresses of the family."""
        self._interfaces: dict[str, list[tuple[str, int]]] = {}
        self._forwarding = {name for name, node in topology.nodes.items() if forwards(node)}
        self._beside: dict[int, list[Endpoint]] = {}
        for number in sorted(usable):
            for end in domains[number].interfaces:
                self._interfaces.setdefault(end.node, []).append((end.interface, number))
        for number in sorted(usable):
            self._beside[number] = [
                end for end in domains[number].interfaces if self._domains_behind(end.node)
            ]
        self._regions = regions(topology, tuple(domains))
        #: Whether some domains are not reached by the default route of those that have one.
        self.has_exceptions = any(
            end.node not in self._forwarding for ends in self._beside.values() for end in ends
        )
        self._rank = {name: number for number, name in enumerate(topology.nodes)}
        self._reached: dict[str, Reach] = {}

    def attached(self, node: str) -> Sequence[tuple[str, int]]:
        """(interface, domain) of a node."""
        return self._interfaces.get(node, ())

    def _domains_behind(self, node: str) -> Sequence[tuple[str, int]]:
        """(interface, domain) that others reach by a node: of a host, its loopback addresses."""
        attached = self.attached(node)
        if node in self._forwarding:
            return attached
        return [(name, domain) for name, domain in attached if name == LOOPBACK]

    def exits(self, node: str) -> list[NextHop]:
        """All forwarding neighbours, the first in the topology first, each once."""
        return [hop for hop in self._next_hops(node) if hop.neighbour.node in self._forwarding]

    def _next_hops(self, node: str) -> list[NextHop]:
        """All neighbours behind which there is something, the first in the topology first."""
        found: dict[str, NextHop] = {}
        for interface, domain in self.attached(node):
            for end in self._beside[domain]:
                if end.node != node:
                    found.setdefault(end.node, NextHop(interface, end))
        return sorted(found.values(), key=lambda hop: self._rank[hop.neighbour.node])

    def effort(self) -> int:
        """How many steps it takes to search from every node that has a choice of next hops."""
        links = sum(map(len, self._beside.values())) + len(self._beside)
        total = 0
        for attached in self._interfaces.values():
            beside = sum(len(self._beside[domain]) for _, domain in attached)
            total += beside + (links if beside > 1 else 0)
        return total

    def reach(self, node: str) -> Reach:
        """What a node reaches, by a breadth-first search over forwarding nodes (done once)."""
        if node not in self._reached:
            self._reached[node] = self._search(node)
        return self._reached[node]

    def _search(self, node: str) -> Reach:
        next_hops = tuple(self._next_hops(node))
        connected = frozenset(domain for _, domain in self.attached(node))
        own_regions = {self._regions.get(domain) for domain in connected}
        hops: dict[int, int] = {}
        visited = {node}
        frontier = []
        for number, hop in enumerate(next_hops):
            visited.add(hop.neighbour.node)
            frontier.append((hop.neighbour.node, number))
        distance = farthest = 0
        while frontier:
            distance += 1
            following = []
            for name, number in frontier:
                for _, domain in self._domains_behind(name):
                    if domain in connected or domain in hops:
                        continue
                    region = self._regions.get(domain)
                    if region is not None and region not in own_regions:
                        continue
                    hops[domain] = number
                    farthest = distance
                    for end in self._beside[domain]:
                        if end.node not in visited:
                            visited.add(end.node)
                            following.append((end.node, number))
            frontier = following
        return Reach(next_hops, hops, connected, farthest)
