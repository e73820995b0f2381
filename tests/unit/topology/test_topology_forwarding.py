"""Plans of random networks, walked hop by hop with longest prefix match."""

from __future__ import annotations

import ipaddress
from collections import deque
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from testbed.topology.broadcast_domains import switch_loops
from testbed.topology.model import Endpoint, Link, Node, Topology
from testbed.topology.planning.plan import plan
from testbed.topology.planning.plan_model import Plan

GIVEN_SUBNETS = (
    ("10.0.2.0/24",),
    ("10.0.3.64/26", "fd00:0:0:2::/64"),
    ("192.168.7.0/24", "2001:db8:7::/64"),
    ("10.128.0.0/9",),
    ("192.168.6.0/24",),
)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Up to nine nodes with random links; some subnets given, some links without IPv6."""
    kinds: list[str] = draw(
        st.lists(st.sampled_from(["host", "router", "router", "switch"]), min_size=2, max_size=9)
    )
    names = [f"n{number}" for number in range(len(kinds))]
    nodes = {
        name: Node(name=name, kind=kind, congestion_control=draw(st.sampled_from([None, "reno"])))
        if kind != "switch"
        else Node(name=name, kind=kind)
        for name, kind in zip(names, kinds, strict=True)
    }
    pairs = draw(
        st.lists(
            st.tuples(st.sampled_from(names), st.sampled_from(names)).filter(
                lambda pair: pair[0] != pair[1]
            ),
            min_size=1,
            max_size=14,
        )
    )
    subnets = list(draw(st.permutations(GIVEN_SUBNETS)))
    links: list[Link] = []
    for number, (a, b) in enumerate(pairs):
        ends = (Endpoint(a, f"e{number}"), Endpoint(b, f"e{number}"))
        beside_switch = "switch" in (nodes[a].kind, nodes[b].kind)
        given_one = not beside_switch and subnets and draw(st.integers(0, 3)) == 0
        mtu = 1500 if given_one else draw(st.sampled_from([1500, 1500, 1500, 1000]))
        link = Link(endpoints=ends, subnets=subnets.pop() if given_one else (), mtu=mtu)
        if not switch_loops(Topology(name="t", nodes=nodes, links=(*links, link))):
            links.append(link)
    assume(links)
    return Topology(name="t", nodes=nodes, links=tuple(links))


IPAddress: TypeAlias = IPv4Address | IPv6Address


@dataclass
class Walker:
    """Forwards packets by a plan the way the kernel would."""

    result: Plan

    def __post_init__(self) -> None:
        self.owner: dict[IPAddress, Endpoint] = {}
        self.tables: dict[str, list[tuple[ipaddress._BaseNetwork, str, str | None]]] = {}
        for name, node in self.result.nodes.items():
            table = self.tables[name] = []
            for interface in node.interfaces:
                for text in interface.addresses:
                    address = ipaddress.ip_interface(text)
                    assert address.ip not in self.owner, "an address is used twice"
                    self.owner[address.ip] = Endpoint(name, interface.name)
                    table.append((address.network, interface.name, None))
            for route in node.routes:
                network = ipaddress.ip_network(route.destination)
                table.append((network, route.interface, route.via))
        self.segments = self._segments()

    def _segments(self) -> dict[Endpoint, int]:
        """Flood from each interface over links and switches: who hears it is on its segment."""
        peers: dict[Endpoint, Endpoint] = {}
        ports: dict[str, list[Endpoint]] = {}
        for link in self.result.links:
            a, b = Endpoint(link.a.node, link.a.name), Endpoint(link.b.node, link.b.name)
            peers |= {a: b, b: a}
            for end in (a, b):
                ports.setdefault(end.node, []).append(end)
        found: dict[Endpoint, int] = {}
        for number, start in enumerate(peers):
            queue = deque([start])
            while queue:
                end = queue.popleft()
                if end in found:
                    continue
                found[end] = number
                queue.append(peers[end])
                if self.result.nodes[end.node].kind == "switch":
                    queue.extend(ports[end.node])
        return found

    def next_hop(self, node: str, target: IPAddress) -> str | None:
        """The node that a packet goes to, None if there is no route."""
        matching = [
            entry
            for entry in self.tables[node]
            if entry[0].version == target.version and target in entry[0]
        ]
        if not matching:
            return None
        _, interface, via = max(matching, key=lambda entry: entry[0].prefixlen)
        receiver = self.owner.get(ipaddress.ip_address(via) if via else target)
        if receiver is None:
            return None
        own = [
            Endpoint(node, item.name)
            for item in self.result.nodes[node].interfaces
            if item.name == interface
        ]
        assert via is None or self.segments[receiver] == self.segments[own[0]], "next hop too far"
        return receiver.node

    def distance(self, node: str, target: Endpoint, version: int) -> int | None:
        """Forwarding nodes on the shortest path to the target's segment, by another algorithm."""
        goal = self.segments[target]
        seen = {node}
        frontier, crossed = {node}, 0
        while frontier:
            reached = {segment for name in frontier for segment in self._attached(name, version)}
            if goal in reached:
                return crossed
            frontier = {
                name
                for name, planned in self.result.nodes.items()
                if planned.kind == "router"
                and name not in seen
                and reached & self._attached(name, version)
            }
            seen |= frontier
            crossed += 1
        return None

    def _attached(self, node: str, version: int) -> set[int]:
        return {
            self.segments[Endpoint(node, interface.name)]
            for interface in self.result.nodes[node].interfaces
            if any((":" in text) == (version == 6) for text in interface.addresses)
        }


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(topologies())
def test_every_packet_arrives_on_a_shortest_path(topology: Topology) -> None:
    walker = Walker(plan(topology))
    for source, node in topology.nodes.items():
        if node.kind == "switch":
            continue
        for target, owner in walker.owner.items():
            if owner.node == source:
                continue
            distance = walker.distance(source, owner, target.version)
            at, crossed = source, 0
            while at != owner.node:
                following = walker.next_hop(at, target)
                if following is None:
                    break
                if following != owner.node:
                    assert topology.nodes[following].kind == "router", "a host was to forward"
                at, crossed = following, crossed + 1
                assert crossed <= len(topology.nodes), f"{source} to {target} goes in circles"
            if distance is None:
                assert at != owner.node, "what cannot be reached was reached"
            else:
                assert at == owner.node, f"{source} to {target} ended at {at}"
                assert crossed - 1 <= distance, f"{source} to {target} took a detour"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(topologies())
def test_plans_are_deterministic_and_complete(topology: Topology) -> None:
    first, second = plan(topology), plan(topology)
    assert first == second
    assert list(first.nodes) == list(topology.nodes)
    assert len(first.links) == len(topology.links)
    macs = [interface.mac for node in first.nodes.values() for interface in node.interfaces]
    assert len(macs) == len(set(macs)) == 2 * len(topology.links)
    for node in first.nodes.values():
        destinations = [route.destination for route in node.routes]
        assert len(destinations) == len(set(destinations))
        for interface in node.interfaces:
            versions = {":" in address for address in interface.addresses}
            small = interface.mtu < 1280
            assert (False in versions) == (node.kind != "switch")
            assert True not in versions or not small
        if node.congestion_control:
            assert {route.metrics.congestion_control for route in node.routes} <= {"reno"}
            listed = {route.destination for route in node.routes if route.via is None}
            assert {
                str(ipaddress.ip_interface(address).network)
                for interface in node.interfaces
                for address in interface.addresses
            } == listed
