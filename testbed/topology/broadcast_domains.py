"""Broadcast domains: the links that switches join, and which domains routing can connect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from testbed.topology.kinds import find
from testbed.topology.model import Endpoint, Node, Topology


@dataclass(frozen=True)
class BroadcastDomain:
    """Links joined by switches; `interfaces` are those with addresses, in order of the links."""

    links: tuple[int, ...]
    interfaces: tuple[Endpoint, ...]


class DisjointSets:
    """Union-find over 0..count-1."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, item: int) -> int:
        """The representative of the set that `item` is in."""
        parent = self._parent
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join(self, a: int, b: int) -> bool:
        """Unite two sets; False if they are one already. The lower representative stays."""
        a, b = self.find(a), self.find(b)
        self._parent[max(a, b)] = min(a, b)
        return a != b


def forwards(node: Node) -> bool:
    """Whether the node passes on packets that are not for itself."""
    kind = find(node.kind)
    return kind is not None and kind.forwards


def has_addresses(node: Node) -> bool:
    """Whether the node's interfaces have addresses; without them it joins its links."""
    kind = find(node.kind)
    return kind is None or kind.has_addresses


_WITHOUT_IPV6: Final = ("net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.default.disable_ipv6")


def has_ipv6(node: Node) -> bool:
    """Whether the node's sysctls leave IPv6 on."""
    return all(node.sysctls.get(name, "0").strip() == "0" for name in _WITHOUT_IPV6)


def with_ipv6(topology: Topology, domain: BroadcastDomain) -> BroadcastDomain:
    """The domain with those of its interfaces that have IPv6."""
    interfaces = tuple(end for end in domain.interfaces if has_ipv6(topology.nodes[end.node]))
    return BroadcastDomain(domain.links, interfaces)


def find_broadcast_domains(topology: Topology) -> tuple[BroadcastDomain, ...]:
    """The domains, in order of their first links; endpoints at unknown nodes are ignored."""
    sets = DisjointSets(len(topology.links))
    first_of_switch: dict[str, int] = {}
    for index, link in enumerate(topology.links):
        for end in link.endpoints:
            node = topology.nodes.get(end.node)
            if node is not None and not has_addresses(node):
                sets.join(index, first_of_switch.setdefault(end.node, index))
    links: dict[int, list[int]] = {}
    interfaces: dict[int, list[Endpoint]] = {}
    for index, link in enumerate(topology.links):
        root = sets.find(index)
        links.setdefault(root, []).append(index)
        members = interfaces.setdefault(root, [])
        for end in link.endpoints:
            node = topology.nodes.get(end.node)
            if node is not None and has_addresses(node):
                members.append(end)
    return tuple(
        BroadcastDomain(links=tuple(links[root]), interfaces=tuple(interfaces[root]))
        for root in links
    )


def switch_loops(topology: Topology) -> list[int]:
    """Indexes of links that close a loop of switches (frames would circle in it for ever)."""
    numbers = {name: number for number, name in enumerate(topology.nodes)}
    sets = DisjointSets(len(numbers))
    loops = []
    for index, link in enumerate(topology.links):
        a, b = (end.node for end in link.endpoints)
        both = [topology.nodes[name] for name in (a, b) if name in numbers]
        if (
            len(both) == 2
            and not any(map(has_addresses, both))
            and not sets.join(numbers[a], numbers[b])
        ):
            loops.append(index)
    return loops


def reachable_sets(topology: Topology, domains: tuple[BroadcastDomain, ...]) -> list[int]:
    """For each domain the number of the set of domains that forwarding nodes connect."""
    sets = DisjointSets(len(domains))
    first_of_node: dict[str, int] = {}
    for index, domain in enumerate(domains):
        for end in domain.interfaces:
            if forwards(topology.nodes[end.node]):
                sets.join(index, first_of_node.setdefault(end.node, index))
    return [sets.find(index) for index in range(len(domains))]
