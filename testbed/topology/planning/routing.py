"""Shortest paths: by which neighbour each node reaches each broadcast domain.

A path counts the forwarding nodes on it (routers, middleboxes); hosts never forward. Among equal
paths the neighbour that comes first in the topology wins, so that both directions tend to agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from testbed.topology.broadcast_domains import BroadcastDomain, forwards
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
        self._forwarders: dict[int, list[Endpoint]] = {}
        for number in sorted(usable):
            ends = domains[number].interfaces
            for end in ends:
                self._interfaces.setdefault(end.node, []).append((end.interface, number))
            self._forwarders[number] = [end for end in ends if forwards(topology.nodes[end.node])]
        self._rank = {name: number for number, name in enumerate(topology.nodes)}
        self._reached: dict[str, Reach] = {}

    def attached(self, node: str) -> Sequence[tuple[str, int]]:
        """(interface, domain) of a node."""
        return self._interfaces.get(node, ())

    def exits(self, node: str) -> list[NextHop]:
        """All forwarding neighbours, the first in the topology first, each once."""
        found: dict[str, NextHop] = {}
        for interface, domain in self.attached(node):
            for end in self._forwarders[domain]:
                if end.node != node:
                    found.setdefault(end.node, NextHop(interface, end))
        return sorted(found.values(), key=lambda hop: self._rank[hop.neighbour.node])

    def effort(self) -> int:
        """How many steps it takes to search from every node that has a choice of next hops."""
        links = sum(map(len, self._forwarders.values())) + len(self._forwarders)
        total = 0
        for attached in self._interfaces.values():
            beside = sum(len(self._forwarders[domain]) for _, domain in attached)
            total += beside + (links if beside > 1 else 0)
        return total

    def reach(self, node: str) -> Reach:
        """What a node reaches, by a breadth-first search over forwarding nodes (done once)."""
        if node not in self._reached:
            self._reached[node] = self._search(node)
        return self._reached[node]

    def _search(self, node: str) -> Reach:
        next_hops = tuple(self.exits(node))
        connected = frozenset(domain for _, domain in self.attached(node))
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
                for _, domain in self._interfaces[name]:
                    if domain in connected or domain in hops:
                        continue
                    hops[domain] = number
                    farthest = distance
                    for end in self._forwarders[domain]:
                        if end.node not in visited:
                            visited.add(end.node)
                            following.append((end.node, number))
            frontier = following
        return Reach(next_hops, hops, connected, farthest)
