"""Subnets for broadcast domains, addresses for interfaces: given ones kept, the others chosen.

Subnets are chosen in the order in which a walk through the network meets the domains, so that
what lies in one direction has neighbouring numbers and routes aggregate: 10.0.1.0/24,
10.0.2.0/24, ... and fd00:0:0:1::/64, fd00:0:0:2::/64, ... Larger domains get larger IPv4 subnets.
"""

from __future__ import annotations

import bisect
import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from testbed.errors import TopologyError
from testbed.topology.broadcast_domains import (
    IPV6_LEAST_MTU,
    BroadcastDomain,
    families_of,
    forwards,
    least_mtu,
    with_ipv6,
)
from testbed.topology.checks.addresses import declared_subnets, given_addresses
from testbed.topology.model import Endpoint, Topology

FAMILIES: Final = (4, 6)
BITS: Final = {4: 32, 6: 128}


@dataclass(frozen=True, order=True, slots=True)
class Prefix:
    """A prefix as numbers, quick to compare; `bits` is 32 or 128."""

    base: int
    length: int
    bits: int

    @property
    def last(self) -> int:
        """The highest address."""
        return self.base | ((1 << (self.bits - self.length)) - 1)

    def __contains__(self, address: int) -> bool:
        return self.base <= address <= self.last

    def __str__(self) -> str:
        return f"{address_text(self.base, self.bits)}/{self.length}"


BLOCKS: Final = {4: Prefix(10 << 24, 8, 32), 6: Prefix(0xFD00 << 112, 48, 128)}
_USUAL_LENGTH: Final = {4: 24, 6: 64}


def address_text(number: int, bits: int) -> str:
    """`10.0.0.1` or `fd00::1` (RFC 5952)."""
    if bits == 32:
        return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return str(ipaddress.IPv6Address(number))


def prefix_of(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Prefix:
    """A network of the standard library as a Prefix."""
    return Prefix(int(network.network_address), network.prefixlen, network.max_prefixlen)


@dataclass(frozen=True)
class Addressing:
    """subnets: family -> domain number -> its subnet (a domain may lack IPv6);
    addresses: interface -> family -> its addresses as numbers; domain_of: interface -> domain.
    """

    subnets: dict[int, dict[int, Prefix]]
    addresses: dict[Endpoint, dict[int, list[int]]]
    domain_of: dict[Endpoint, int]

    def in_cidr_form(self, end: Endpoint) -> tuple[str, ...]:
        """`10.0.1.1/24`, `fd00:0:0:1::1/64`; nothing for an interface of a switch."""
        return tuple(
            f"{address_text(number, BITS[family])}/{subnets[self.domain_of[end]].length}"
            for family, subnets in self.subnets.items()
            for number in self.addresses.get(end, {}).get(family, ())
        )


def assign(topology: Topology, domains: Sequence[BroadcastDomain]) -> Addressing:
    """Decide all subnets and addresses of a checked topology.

    Raises TopologyError if the address block or a subnet is exhausted.
    """
    subnets: dict[int, dict[int, Prefix]] = {4: {}, 6: {}}
    for entry in declared_subnets(topology, tuple(domains), []):
        subnets[entry.network.version][entry.domain] = prefix_of(entry.network)
    order = list(_walk(topology, domains))
    for family in FAMILIES:
        _choose_subnets(topology, domains, order, family, subnets[family])
    nested = {family: nested_in(subnets[family].values()) for family in FAMILIES}
    addresses: dict[Endpoint, dict[int, list[int]]] = {}
    domain_of: dict[Endpoint, int] = {}
    for number, domain in enumerate(domains):
        for end in domain.interfaces:
            domain_of[end] = number
            addresses[end] = {4: [], 6: []}
            for _, host in given_addresses(topology, end.node, end.interface, []):
                addresses[end][host.version].append(int(host.ip))
        for family in FAMILIES:
            if number in subnets[family]:
                members = domain if family == 4 else with_ipv6(topology, domain)
                subnet = subnets[family][number]
                inside = nested[family].get(subnet, ())
                _choose_addresses(members, subnet, inside, family, addresses)
    return Addressing(subnets, addresses, domain_of)


def _walk(topology: Topology, domains: Sequence[BroadcastDomain]) -> Iterator[int]:
    """Domain numbers in depth-first order over forwarding nodes, from the first domain on."""
    attached: dict[str, list[int]] = {}
    for number, domain in enumerate(domains):
        for end in domain.interfaces:
            attached.setdefault(end.node, []).append(number)
    seen: set[int] = set()
    for start in range(len(domains)):
        stack = [start]
        while stack:
            number = stack.pop()
            if number in seen:
                continue
            seen.add(number)
            yield number
            for end in reversed(domains[number].interfaces):
                if forwards(topology.nodes[end.node]):
                    stack.extend(
                        other for other in reversed(attached[end.node]) if other not in seen
                    )


def _choose_subnets(
    topology: Topology,
    domains: Sequence[BroadcastDomain],
    order: Sequence[int],
    family: int,
    subnets: dict[int, Prefix],
) -> None:
    block = BLOCKS[family]
    taken = _outermost(subnets.values())
    unit = 1 << (block.bits - _USUAL_LENGTH[family])
    cursor = block.base + unit
    for number in order:
        domain = domains[number]
        if number in subnets or not domain.interfaces or not domain.links:
            continue
        if family not in families_of(topology, domain):
            continue
        if family == 6 and least_mtu(topology, domain) < IPV6_LEAST_MTU:
            continue
        subnet = _next_free(cursor, _length_for(len(domain.interfaces), family), block, taken)
        subnets[number] = subnet
        cursor = subnet.last + 1


def nested_in(subnets: Iterable[Prefix]) -> dict[Prefix, list[Prefix]]:
    """The subnets that have others inside, each with those, in order."""
    found: dict[Prefix, list[Prefix]] = {}
    around: list[Prefix] = []
    for subnet in sorted(set(subnets)):
        while around and around[-1].last < subnet.base:
            around.pop()
        for outer in around:
            found.setdefault(outer, []).append(subnet)
        around.append(subnet)
    return found


def _outermost(subnets: Iterable[Prefix]) -> list[Prefix]:
    """In order, without those that are inside others."""
    found: list[Prefix] = []
    for subnet in sorted(subnets):
        if not found or found[-1].last < subnet.base:
            found.append(subnet)
    return found


def _length_for(interfaces: int, family: int) -> int:
    """The usual length, or a shorter one that leaves room for network and broadcast address."""
    needed = BITS[family] - (interfaces + 1).bit_length()
    return min(_USUAL_LENGTH[family], needed)


def _next_free(cursor: int, length: int, block: Prefix, taken: Sequence[Prefix]) -> Prefix:
    """The first aligned subnet from `cursor` on that overlaps none of the sorted `taken`."""
    size = 1 << (block.bits - length)
    while True:
        candidate = Prefix(-(-cursor // size) * size, length, block.bits)
        if candidate.last > block.last:
            raise TopologyError(
                [f"no room for another subnet in {block}; give smaller `subnet:`s to some links"]
            )
        position = bisect.bisect_right(taken, candidate.last, key=lambda prefix: prefix.base)
        before = taken[position - 1] if position else None
        if before is None or before.last < candidate.base:
            return candidate
        cursor = before.last + 1


def _choose_addresses(
    domain: BroadcastDomain,
    subnet: Prefix,
    inside: Sequence[Prefix],
    family: int,
    addresses: dict[Endpoint, dict[int, list[int]]],
) -> None:
    """Host numbers from 1 on, in order of the links, for interfaces that have no address yet.

    inside: parts of the subnet that are somewhere else. Raises TopologyError if they leave no room.
    """
    used = {number for end in domain.interfaces for number in addresses[end][family]}
    candidate = subnet.base if subnet.length >= subnet.bits - 1 else subnet.base + 1
    last = subnet.last - (family == 4 and subnet.length < subnet.bits - 1)  # without broadcast
    for end in domain.interfaces:
        if addresses[end][family]:
            continue
        while True:
            foreign = next((part for part in inside if candidate in part), None)
            if foreign is not None:
                candidate = foreign.last + 1
            elif candidate in used:
                candidate += 1
            else:
                break
        if candidate > last:
            text = f"{subnet} has no room for {end} beside the subnets within it"
            raise TopologyError([f"{text}; give the link a larger `subnet`"])
        addresses[end][family].append(candidate)
        used.add(candidate)
