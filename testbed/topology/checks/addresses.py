"""Whether the subnets and addresses that a topology gives fit together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from testbed.errors import InvalidValue
from testbed.topology import names
from testbed.topology.broadcast_domains import BroadcastDomain
from testbed.topology.model import Topology
from testbed.topology.names import HostAddress, Network
from testbed.topology.problems import Path, Problem, key_path

IPV6_LEAST_MTU: Final = 1280  # RFC 8200 section 5; below it Linux has no IPv6 on the interface


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
    chosen: dict[tuple[int, int], Declared] = {}
    for entry in subnets:
        first = chosen.setdefault((entry.domain, entry.network.version), entry)
        if first.network != entry.network:
            yield Problem(
                entry.path,
                f"{entry.network} is not the subnet of the link, "
                f"{first.network} (by {key_path(first.path)})",
            )
    yield from _overlaps(sorted(chosen.values(), key=_order))
    for entry in chosen.values():
        yield from _size_problems(topology, domains[entry.domain], entry)
    yield from _duplicates(topology)


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


def _overlaps(entries: list[Declared]) -> Iterator[Problem]:
    """Sorted by address, an overlap is one with the entry that reaches farthest so far."""
    reach: Declared | None = None
    for entry in entries:
        if reach is not None and entry.network.version == reach.network.version:
            if int(entry.network.network_address) <= int(reach.network.broadcast_address):
                later, earlier = entry, reach
                if later.domain < earlier.domain:
                    later, earlier = earlier, later
                text = f"{later.network} overlaps {earlier.network} of {key_path(earlier.path)}"
                yield Problem(later.path, f"{text}, another link")
            if int(entry.network.broadcast_address) > int(reach.network.broadcast_address):
                reach = entry
        else:
            reach = entry


def _size_problems(
    topology: Topology, domain: BroadcastDomain, entry: Declared
) -> Iterator[Problem]:
    network = entry.network
    room = usable_addresses(network)
    if len(domain.interfaces) > room:
        text = f"{network} has room for {room} addresses, the link needs {len(domain.interfaces)}"
        yield Problem(entry.path, text)
    if network.version == 6:
        least = min(topology.links[index].mtu for index in domain.links)
        if least < IPV6_LEAST_MTU:
            text = f"IPv6 needs an MTU of {IPV6_LEAST_MTU}, and the link has {least}"
            yield Problem(entry.path, text)


def usable_addresses(network: Network) -> int:
    """How many hosts fit: all of a /31 or /127 (RFC 3021, RFC 6164), else not the first (nor,
    in IPv4, the last)."""
    if network.num_addresses == 2:
        return 2
    return network.num_addresses - (2 if network.version == 4 else 1)


def _duplicates(topology: Topology) -> Iterator[Problem]:
    ignored: list[Problem] = []
    first: dict[str, Path] = {}
    for name, node in topology.nodes.items():
        for interface in node.interfaces:
            for path, host in given_addresses(topology, name, interface, ignored):
                text = str(host.ip)
                if text in first:
                    yield Problem(path, f"{text} is given to {key_path(first[text])} already")
                first.setdefault(text, path)
