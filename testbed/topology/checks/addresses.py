"""Whether the subnets and addresses that a topology gives fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from testbed.errors import InvalidValue
from testbed.topology import names
from testbed.topology.broadcast_domains import (
    IPV6_LEAST_MTU,
    LOOPBACK,
    BroadcastDomain,
    families_of,
    least_mtu,
    regions,
)
from testbed.topology.model import Endpoint, Topology
from testbed.topology.names import HostAddress, Network
from testbed.topology.problems import Path, Problem, key_path


class Declared(NamedTuple):
    """A subnet that a link or an address declares for its broadcast domain, and where."""

    network: Network
    domain: int
    path: Path


def address_problems(topology: Topology, domains: tuple[BroadcastDomain, ...]) -> Iterator[Problem]:
    """Subnets that disagree, overlap or are too small; addresses that are given twice."""
    problems: list[Problem] = []
    subnets = declared_subnets(topology, domains, problems)
    yield from problems
    chosen: dict[tuple[int, int], Declared] = {}  # by domain and version
    for entry in subnets:
        first = chosen.setdefault((entry.domain, entry.network.version), entry)
        if first.network != entry.network:
            yield Problem(
                entry.path,
                f"{entry.network} is not the subnet of the link, "
                f"{first.network} (by {key_path(first.path)})",
            )
    region_of = regions(topology, domains)
    yield from _overlaps(topology, sorted(chosen.values(), key=_order), domains, region_of)
    yield from _family_problems(topology, domains, chosen)
    for entry in chosen.values():
        yield from _size_problems(topology, domains[entry.domain], entry)
    yield from _duplicates(topology, domains, region_of)


def declared_subnets(
    topology: Topology, domains: tuple[BroadcastDomain, ...], problems: list[Problem]
) -> list[Declared]:
    """All subnets that links and addresses declare; what is no subnet goes to `problems`."""
    found = []
    for number, domain in enumerate(domains):
        for index in domain.links:
            versions = set()
            for position, text in enumerate(topology.links[index].subnets):
                path: Path = ("links", index, "subnet", position)
                try:
                    network = names.parse_subnet(text)
                except InvalidValue as error:
                    problems.append(Problem(path, str(error)))
                    continue
                if network.version in versions:
                    text = f"a second IPv{network.version} subnet; a link has one of each family"
                    problems.append(Problem(path, text))
                    continue
                versions.add(network.version)
                found.append(Declared(network, number, path))
        for end in domain.interfaces:
            for path, host in given_addresses(topology, end.node, end.interface, problems):
                found.append(Declared(host.network, number, path))
    return found


def given_addresses(
    topology: Topology, node: str, interface: str, problems: list[Problem]
) -> list[tuple[Path, HostAddress]]:
    """The addresses a topology gives to an interface, with their paths."""
    settings = topology.nodes[node].interfaces.get(interface)
    found = []
    for index, text in enumerate(settings.addresses if settings else ()):
        path: Path = ("nodes", node, "interfaces", interface, "addresses", index)
        try:
            found.append((path, names.parse_host_address(text)))
        except InvalidValue as error:
            problems.append(Problem(path, str(error)))
    return found


def _order(entry: Declared) -> tuple[int, int, int]:
    return entry.network.version, int(entry.network.network_address), entry.network.prefixlen


def _overlaps(
    topology: Topology,
    entries: list[Declared],
    domains: tuple[BroadcastDomain, ...],
    region_of: Mapping[int, int],
) -> Iterator[Problem]:
    """Equal subnets that one node could reach; within another, a smaller one is more specific.

    Sorted by address and length, a subnet is inside those before it that have not ended yet.
    """
    around: list[Declared] = []
    for entry in entries:
        while around and not _contains(around[-1], entry):
            around.pop()
        for outer in around:
            if entry.network.num_addresses == 1:
                continue  # an address given twice
            same = region_of.get(entry.domain) == region_of.get(outer.domain)
            shared = _nodes(domains[entry.domain]) & _nodes(domains[outer.domain])
            if outer.network != entry.network:
                if same or shared or entry.domain not in region_of:
                    yield from _hidden(topology, domains[outer.domain], entry)
                continue
            later, earlier = sorted((entry, outer), key=lambda one: one.domain)[::-1]
            text = f"{later.network} is the subnet of {key_path(earlier.path)} already"
            if same:
                hint = "a subnet can be there twice on links that are `private: true`"
                yield Problem(later.path, f"{text}, another link; {hint}, behind different nodes")
            elif shared:
                yield Problem(later.path, f"{text}, and {min(shared)} would be on both")
        around.append(entry)


def _hidden(topology: Topology, domain: BroadcastDomain, inner: Declared) -> Iterator[Problem]:
    """Addresses of a link in a smaller subnet, to which packets for them would go."""
    for end in domain.interfaces:
        for path, host in given_addresses(topology, end.node, end.interface, []):
            if host.ip in inner.network:
                text = f"{host.ip} lies in {inner.network}, the subnet of another link"
                yield Problem(path, f"{text} (by {key_path(inner.path)}), which is more specific")


def _contains(outer: Declared, entry: Declared) -> bool:
    return outer.network.version == entry.network.version and int(
        entry.network.network_address
    ) <= int(outer.network.broadcast_address)


def _nodes(domain: BroadcastDomain) -> set[str]:
    return {end.node for end in domain.interfaces}


def _family_problems(
    topology: Topology,
    domains: tuple[BroadcastDomain, ...],
    chosen: Mapping[tuple[int, int], Declared],
) -> Iterator[Problem]:
    for number, domain in enumerate(domains):
        families = families_of(topology, domain)
        if not families:
            text = "its links are for IPv4 alone and for IPv6 alone; one network has one `family`"
            yield Problem(("links", domain.links[-1], "family"), text)
        elif families == {6} and least_mtu(topology, domain) < IPV6_LEAST_MTU:
            text = f"IPv6 needs an MTU of {IPV6_LEAST_MTU}, and the link has no IPv4"
            yield Problem(("links", domain.links[0], "mtu"), text)
        for version in {4, 6} - families if families else ():
            entry = chosen.get((number, version))
            if entry is not None:
                text = f"{entry.network} is IPv{version}, which the `family` of the link rules out"
                yield Problem(entry.path, text)


def _size_problems(
    topology: Topology, domain: BroadcastDomain, entry: Declared
) -> Iterator[Problem]:
    network = entry.network
    if not domain.links and network.num_addresses > 1:
        longest = network.max_prefixlen
        text = f"an address of {LOOPBACK} stands for itself alone: write /{longest}"
        yield Problem(entry.path, text)
        return
    room = usable_addresses(network)
    if len(domain.interfaces) > room:
        text = f"{network} has room for {room} addresses, the link needs {len(domain.interfaces)}"
        yield Problem(entry.path, text)
    if network.version == 6:
        least = least_mtu(topology, domain)
        if least < IPV6_LEAST_MTU:
            text = f"IPv6 needs an MTU of {IPV6_LEAST_MTU}, and the link has {least}"
            yield Problem(entry.path, text)


def usable_addresses(network: Network) -> int:
    """How many hosts fit: all of a /31 or /127 (RFC 3021, RFC 6164) and of a single address, else
    not the first (nor, in IPv4, the last)."""
    if network.num_addresses <= 2:
        return network.num_addresses
    return network.num_addresses - (2 if network.version == 4 else 1)


def _duplicates(
    topology: Topology, domains: tuple[BroadcastDomain, ...], region_of: Mapping[int, int]
) -> Iterator[Problem]:
    """Addresses that are given twice in one region, or in the public part."""
    ignored: list[Problem] = []
    region = {
        end: region_of.get(number)
        for number, domain in enumerate(domains)
        for end in domain.interfaces
    }
    first: dict[tuple[str, int | None], Path] = {}
    for name, node in topology.nodes.items():
        for interface in node.interfaces:
            for path, host in given_addresses(topology, name, interface, ignored):
                key = str(host.ip), region.get(Endpoint(name, interface))
                if key in first:
                    yield Problem(path, f"{key[0]} is given to {key_path(first[key])} already")
                first.setdefault(key, path)
