"""Whether a topology makes sense: the checks that need more than one value to be seen.

They hold for topologies from YAML (whose loader adds lines) and for those made in Python.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from testbed.errors import InvalidValue
from testbed.topology import kinds, names
from testbed.topology.broadcast_domains import (
    LOOPBACK,
    BroadcastDomain,
    find_broadcast_domains,
    has_addresses,
    reachable_sets,
    switch_loops,
)
from testbed.topology.checks.addresses import address_problems
from testbed.topology.checks.impairments import impairment_problems
from testbed.topology.model import CapturePoint, Endpoint, Link, Match, Node, RouteMetrics, Topology
from testbed.topology.problems import MAX_PROBLEMS, Path, Problem, refuse
from testbed.topology.units import format_duration
from testbed.topology.values.scalars import (
    ADVMSS,
    LINK_MTU,
    PROCESSES,
    ROUTE_MTU,
    SNAP,
    WINDOW,
)
from testbed.topology.values.shapes import Scalar
from testbed.wording import join, quote, suggestion

MAX_NODES: Final = 5000
MAX_LINKS: Final = 10_000
_OF_SOME_KINDS: Final = frozenset({"functions", "outside", "kernel"})


def check(topology: Topology) -> None:
    """Raises TopologyError with all faults of a topology; returns nothing if there is none."""
    problems = find_problems(topology)
    if problems:
        raise refuse(str(problem) for problem in problems)


def find_problems(topology: Topology, links_complete: bool = True) -> list[Problem]:
    """All faults (the first hundred or so), each with the path of the key that is at fault.

    links_complete: False if links were left out because they could not be read; then nothing is
    said about interfaces that seem to be missing.
    """
    if len(topology.nodes) > MAX_NODES:
        return [Problem(("nodes",), f"{len(topology.nodes)} nodes; at most {MAX_NODES} are built")]
    if len(topology.links) > MAX_LINKS:
        return [Problem(("links",), f"{len(topology.links)} links; at most {MAX_LINKS} are built")]
    return list(itertools.islice(_all_problems(topology, links_complete), MAX_PROBLEMS + 1))


def _all_problems(topology: Topology, links_complete: bool) -> Iterator[Problem]:
    yield from _try(("name",), names.parse_topology_name, topology.name)
    if not topology.nodes:
        yield Problem(("nodes",), "a topology needs at least one node")
    for name, node in topology.nodes.items():
        yield from _node_problems(name, node)
    for index, link in enumerate(topology.links):
        yield from _link_problems(("links", index), link, topology.nodes)
    yield from _in_range(("emulator", "processes"), PROCESSES, topology.emulator_processes)
    if not 0 < topology.max_lateness < math.inf:
        text = f"expected a duration above 0, got {topology.max_lateness!r}"
        yield Problem(("emulator", "max_lateness"), text)
    yield from _twice_problems(topology)
    yield from _loop_problems(topology)
    if links_complete:
        interfaces = _interfaces(topology)
        yield from _interface_problems(topology, interfaces)
        yield from _capture_problems(topology, interfaces)
    domains = find_broadcast_domains(topology)
    yield from address_problems(topology, domains)
    yield from _route_problems(topology, domains, links_complete)


def _interfaces(topology: Topology) -> dict[str, dict[str, str]]:
    """node -> interface -> neighbour."""
    found: dict[str, dict[str, str]] = {name: {} for name in topology.nodes}
    for link in topology.links:
        for end, other in (link.endpoints, link.endpoints[::-1]):
            found.setdefault(end.node, {})[end.interface] = other.node
    return found


def _try(path: Path, parse: Callable[[Any], object], value: object) -> Iterator[Problem]:
    try:
        parse(value)
    except InvalidValue as error:
        yield Problem(path, str(error))


def _node_problems(name: str, node: Node) -> Iterator[Problem]:
    path: Path = ("nodes", name)
    yield from _try(path, names.parse_node_name, name)
    if node.name != name:
        yield Problem(path, f"the node under this key calls itself {quote(node.name)}")
    yield from _try((*path, "kind"), kinds.KIND.parse, node.kind)
    if node.congestion_control is not None:
        where = (*path, "congestion_control")
        yield from _try(where, names.parse_congestion_control, node.congestion_control)
    for sysctl, value in node.sysctls.items():
        where = (*path, "sysctls", sysctl)
        yield from _try(where, names.parse_sysctl_name, sysctl)
        if not isinstance(value, str) or not names.matches(names.SYSCTL_VALUE, value):
            yield Problem(where, f"expected one line of printable text, got {quote(value)}")
    for interface in node.interfaces:
        where = (*path, "interfaces", interface)
        if interface != LOOPBACK:
            yield from _try(where, names.parse_interface_name, interface)
        for key in ("vlan", "vlans"):
            if getattr(node.interfaces[interface], key) and has_addresses(node):
                text = f"only interfaces of a switch have VLANs, and {name} is a {node.kind}"
                yield Problem((*where, key), text)
    for function_index, function in enumerate(node.functions):
        where = (*path, "functions", function_index)
        yield from _try(
            where,
            lambda value: names.parse_name(value, names.FUNCTION_NAME, "a function name"),
            function.name,
        )
    yield from _kind_problems(path, node)


def _kind_problems(path: Path, node: Node) -> Iterator[Problem]:
    """Fields that the kind of the node does not have, and what else the kind says."""
    kind = kinds.find(node.kind)
    if kind is not None:
        for problem in kind.problems(node):
            yield Problem((*path, *problem.path), problem.text)
    for key in sorted(_OF_SOME_KINDS):
        takers = [name for name in kinds.names() if key in _takes(name)]
        if getattr(node, key) and node.kind not in takers:
            yield Problem((*path, key), _not_for(node, key, takers))
    for key in node.settings:
        takers = [name for name in kinds.names() if key in _keys(name)]
        if node.kind not in takers:
            yield Problem((*path, key), _not_for(node, key, takers))


def _takes(kind: str) -> frozenset[str]:
    found = kinds.find(kind)
    return found.takes if found is not None else frozenset()


def _keys(kind: str) -> set[str]:
    found = kinds.find(kind)
    return {key.name for key in found.keys} if found is not None else set()


def _not_for(node: Node, key: str, takers: list[str]) -> str:
    who = f"a {join(takers)}" if takers else "another kind of node"
    return f"only {who} has {key}, and {node.name} is a {node.kind}"


def _link_problems(path: Path, link: Link, nodes: Mapping[str, Node]) -> Iterator[Problem]:
    for position, end in enumerate(link.endpoints):
        where = (*path, "endpoints", position)
        if end.node not in nodes:
            yield Problem(where, names.unknown_node(end.node, nodes))
        yield from _try(where, names.parse_interface_name, end.interface)
    a, b = link.endpoints
    yield from _vlan_problems(path, link, nodes)
    if a.node == b.node:
        yield Problem((*path, "endpoints"), f"the link joins {quote(a.node)} to itself")
    yield from _in_range((*path, "mtu"), LINK_MTU, link.mtu)
    yield from impairment_problems(path, link)
    yield from _peer_problems(path, link, nodes)


def _vlan_problems(path: Path, link: Link, nodes: Mapping[str, Node]) -> Iterator[Problem]:
    """Tags are understood by switches alone, and by both or none."""
    tagged = []
    for end in link.endpoints:
        settings = nodes[end.node].interfaces.get(end.interface) if end.node in nodes else None
        tagged.append(set(settings.vlans) if settings is not None else set())
    if tagged[0] != tagged[1]:
        told = (f"{join(sorted(map(str, vlans)), 'and') or 'none'}" for vlans in tagged)
        text = "both ends of a link have the same `vlans`, of which there are {} and {}".format(
            *told
        )
        yield Problem((*path, "endpoints"), text)
    elif tagged[0] and link.subnets:
        text = "a link of several VLANs has no subnet; give one to a link of each"
        yield Problem((*path, "subnet"), text)


def _peer_problems(path: Path, link: Link, nodes: Mapping[str, Node]) -> Iterator[Problem]:
    """What the rules of `match` name must be there, or be prefixes."""
    places: list[tuple[Path, tuple[Match, ...]]] = [
        ((*path, "forward"), link.forward.match),
        ((*path, "reverse"), link.reverse.match),
    ]
    for index, change in enumerate(link.schedule):
        places.append(((*path, "schedule", index), change.changes.get("match", ())))
    for where, rules in places:
        for number, rule in enumerate(rules):
            for key, given in (("to", rule.to), ("from", rule.source)):
                for name in given:
                    place = (*where, "match", number, key)
                    if not names.looks_like_address(name):
                        if name not in nodes:
                            yield Problem(place, names.unknown_node(name, nodes))
                    else:
                        yield from _try(place, names.parse_peer, name)


def _in_range(path: Path, shape: Scalar, value: int | None) -> Iterator[Problem]:
    if value is not None:
        yield from _try(path, shape.parse, value)


def _twice_problems(topology: Topology) -> Iterator[Problem]:
    used: dict[Endpoint, int] = {}
    for index, link in enumerate(topology.links):
        for position, end in enumerate(link.endpoints):
            if end in used:
                before = f"links[{used[end]}]" if used[end] != index else "the same link"
                where = ("links", index, "endpoints", position)
                yield Problem(where, f"interface {end} is in use by {before} already")
            used[end] = index


def _loop_problems(topology: Topology) -> Iterator[Problem]:
    for index in switch_loops(topology):
        text = "this link closes a loop of switches, in which frames circle for ever; remove it"
        yield Problem(("links", index), text)


def _interface_problems(
    topology: Topology, interfaces: Mapping[str, Mapping[str, str]]
) -> Iterator[Problem]:
    for name, node in topology.nodes.items():
        own = interfaces[name]
        for interface in node.interfaces:
            if interface not in own and interface != LOOPBACK:
                where = ("nodes", name, "interfaces", interface)
                yield Problem(
                    where, f"no link ends in {name}:{interface}{_existing(interface, own)}"
                )
        kind = kinds.find(node.kind)
        if kind is not None:
            for problem in kind.neighbour_problems(node, own):
                yield Problem(("nodes", name, *problem.path), problem.text)


def _existing(word: str, own: Mapping[str, str]) -> str:
    near = suggestion(word, own)
    if near or not own:
        return near or "; no link ends in this node at all"
    return f"; there is {join(list(own)[:5])}"


def _capture_problems(
    topology: Topology, interfaces: Mapping[str, Mapping[str, str]]
) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, end in enumerate(topology.captures):
        path: Path = ("captures", index)
        if end.node not in topology.nodes:
            yield Problem(path, names.unknown_node(end.node, topology.nodes))
        elif end.interface not in interfaces[end.node]:
            existing = _existing(end.interface, interfaces[end.node])
            yield Problem(path, f"no link ends in {end}{existing}")
        if str(end) in seen:
            yield Problem(path, f"{end} is captured twice; remove one")
        seen.add(str(end))
        if isinstance(end, CapturePoint):
            yield from _in_range((*path, "snap"), SNAP, end.snap)


def _route_problems(
    topology: Topology, domains: tuple[BroadcastDomain, ...], links_complete: bool
) -> Iterator[Problem]:
    routed = [name for name, node in topology.nodes.items() if node.routes]
    if not routed:
        return
    attached: dict[str, set[int]] = {name: set() for name in topology.nodes}
    for index, domain in enumerate(domains):
        for end in domain.interfaces:
            attached[end.node].add(index)
    connected = reachable_sets(topology, domains)
    for name in routed:
        for index, route in enumerate(topology.nodes[name].routes):
            path: Path = ("nodes", name, "routes", index)
            yield from _metric_problems(path, route.metrics)
            yield from _try((*path, "to"), names.parse_target, route.to)
            if route.via is not None:
                yield from _via_problems((*path, "via"), name, route.via, attached, links_complete)
            if route.to == "default" or names.looks_like_address(route.to):
                continue
            faults = list(_target_problems((*path, "to"), name, route.to, topology.nodes))
            yield from faults
            if not faults and route.via is None and links_complete:
                own = {connected[domain] for domain in attached[name]}
                if own.isdisjoint(connected[domain] for domain in attached[route.to]):
                    yield Problem((*path, "to"), f"there is no path from {name} to {route.to}")


def _target_problems(
    path: Path, name: str, target: str, nodes: Mapping[str, Node]
) -> Iterator[Problem]:
    if target not in nodes:
        yield Problem(path, names.unknown_node(target, [*nodes, "default"]))
    elif target == name:
        yield Problem(path, "the route leads to the node itself")
    elif not has_addresses(nodes[target]):
        yield Problem(path, f"{target} is a {nodes[target].kind}, which has no address")


def _via_problems(
    path: Path, name: str, via: str, attached: Mapping[str, set[int]], links_complete: bool
) -> Iterator[Problem]:
    yield from _try(path, names.parse_via, via)
    if names.looks_like_address(via):
        return
    if via not in attached:
        yield Problem(path, names.unknown_node(via, list(attached)))
    elif via == name:
        yield Problem(path, "the next hop is the node itself")
    elif links_complete and attached[via].isdisjoint(attached[name]):
        yield Problem(path, f"{via} is no neighbour of {name}; a next hop must be one")


def _metric_problems(path: Path, metrics: RouteMetrics) -> Iterator[Problem]:
    if metrics.rto_min is not None and not 0 < metrics.rto_min <= 120:
        # TCP_RTO_MAX is 120 s (include/net/tcp.h): a larger least time-out has no meaning.
        value = metrics.rto_min
        shown = format_duration(value) if value > 0 else repr(value)
        text = f"expected more than 0 and at most 2min, got {shown}"
        yield Problem((*path, "rto_min"), text)
    yield from _in_range((*path, "initcwnd"), WINDOW, metrics.initcwnd)
    yield from _in_range((*path, "initrwnd"), WINDOW, metrics.initrwnd)
    yield from _in_range((*path, "advmss"), ADVMSS, metrics.advmss)
    yield from _in_range((*path, "mtu"), ROUTE_MTU, metrics.mtu)
    if metrics.congestion_control is not None:
        where = (*path, "congestion_control")
        yield from _try(where, names.parse_congestion_control, metrics.congestion_control)
