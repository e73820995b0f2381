"""Broadcast domains: the links that switches join, and which domains routing can connect.

A link between switches that carries several VLANs is in one domain for each.

A node with addresses on its loopback interface has a domain of its own for them, without links.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from testbed.topology.kinds import find
from testbed.topology.model import Endpoint, FamilyName, Node, Topology

IPV6_LEAST_MTU: Final = 1280  # RFC 8200 section 5; below it Linux has no IPv6 on the interface
LOOPBACK: Final = "lo"
_FAMILIES: Final[dict[FamilyName, frozenset[int]]] = {
    "both": frozenset((4, 6)),
    "ipv4": frozenset((4,)),
    "ipv6": frozenset((6,)),
}


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


def families_of(topology: Topology, domain: BroadcastDomain) -> frozenset[int]:
    """4, 6, both or none: the families that all links of a domain have, whatever their MTU."""
    named = [topology.links[index].family or topology.family for index in domain.links]
    return frozenset((4, 6)).intersection(*(_FAMILIES[name] for name in named))


def least_mtu(topology: Topology, domain: BroadcastDomain) -> int:
    """Of all links of a domain."""
    return min((topology.links[index].mtu for index in domain.links), default=IPV6_LEAST_MTU)


def vlans_of(topology: Topology, end: Endpoint) -> dict[int | None, int | None]:
    """The VLAN of each tag that frames at an end can have; None for frames without a tag, and for
    the one network of a switch that has no VLANs."""
    node = topology.nodes.get(end.node)
    settings = node.interfaces.get(end.interface) if node is not None else None
    if settings is None or not settings.vlans:
        return {None: settings.vlan if settings is not None else None}
    return {vlan: vlan for vlan in settings.vlans}


def find_broadcast_domains(topology: Topology) -> tuple[BroadcastDomain, ...]:
    """The domains, in order of their first links, then those of loopback interfaces; endpoints at
    unknown nodes are ignored."""
    numbers: dict[tuple[int, int | None], int] = {}  # of a link and a tag
    for index, link in enumerate(topology.links):
        for end in link.endpoints:
            for tag in vlans_of(topology, end):
                numbers.setdefault((index, tag), len(numbers))
    sets = DisjointSets(len(numbers))
    first_of_vlan: dict[tuple[str, int | None], int] = {}
    for index, link in enumerate(topology.links):
        for end in link.endpoints:
            node = topology.nodes.get(end.node)
            if node is not None and not has_addresses(node):
                for tag, vlan in vlans_of(topology, end).items():
                    number = numbers[index, tag]
                    sets.join(number, first_of_vlan.setdefault((end.node, vlan), number))
    links: dict[int, list[int]] = {}
    interfaces: dict[int, list[Endpoint]] = {}
    for (index, tag), number in numbers.items():
        root = sets.find(number)
        links.setdefault(root, []).append(index)
        members = interfaces.setdefault(root, [])
        for end in topology.links[index].endpoints:
            node = topology.nodes.get(end.node)
            if tag is None and node is not None and has_addresses(node):
                members.append(end)
    joined = (
        BroadcastDomain(links=tuple(links[root]), interfaces=tuple(interfaces[root]))
        for root in links
    )
    alone = (
        BroadcastDomain(links=(), interfaces=(Endpoint(name, LOOPBACK),))
        for name, node in topology.nodes.items()
        if LOOPBACK in node.interfaces and has_addresses(node)
    )
    return (*joined, *alone)


def regions(topology: Topology, domains: tuple[BroadcastDomain, ...]) -> dict[int, int]:
    """For each private domain the number of its region; the others are public.

    Private are the domains that have a private link. Those that one node forwards between are one
    region. Nobody outside a region has routes into it, so that its subnets may be used elsewhere
    again; a middlebox that translates addresses usually stands at its border.
    """
    private = [
        number
        for number, domain in enumerate(domains)
        if any(topology.links[index].private for index in domain.links)
    ]
    sets = DisjointSets(len(domains))
    first_of_node: dict[str, int] = {}
    for number in private:
        for end in domains[number].interfaces:
            if forwards(topology.nodes[end.node]):
                sets.join(number, first_of_node.setdefault(end.node, number))
    return {number: sets.find(number) for number in private}


def switch_loops(topology: Topology) -> list[int]:
    """Indexes of links that close a loop of switches (frames would circle in it for ever)."""
    numbers: dict[tuple[str, int | None], int] = {}
    joins: list[tuple[int, tuple[str, int | None], tuple[str, int | None]]] = []
    for index, link in enumerate(topology.links):
        one, other = link.endpoints
        if any(
            node is None or has_addresses(node)
            for node in (topology.nodes.get(one.node), topology.nodes.get(other.node))
        ):
            continue
        here, there = vlans_of(topology, one), vlans_of(topology, other)
        for tag in here.keys() & there.keys():
            joins.append((index, (one.node, here[tag]), (other.node, there[tag])))
    for _, a, b in joins:
        for switch in (a, b):
            numbers.setdefault(switch, len(numbers))
    sets = DisjointSets(len(numbers))
    return sorted({index for index, a, b in joins if not sets.join(numbers[a], numbers[b])})


def reachable_sets(topology: Topology, domains: tuple[BroadcastDomain, ...]) -> list[int]:
    """For each domain the number of the set of domains that forwarding nodes connect."""
    sets = DisjointSets(len(domains))
    first_of_node: dict[str, int] = {}
    for index, domain in enumerate(domains):
        for end in domain.interfaces:
            if forwards(topology.nodes[end.node]):
                sets.join(index, first_of_node.setdefault(end.node, index))
    return [sets.find(index) for index in range(len(domains))]
