"""The plan: a topology with every address, route and setting decided.

The lab builds exactly what a plan says and reads it back; nothing is decided later than here.
"""

from __future__ import annotations

import msgspec

from testbed.topology.model import (
    Endpoint,
    Impairments,
    RouteMetrics,
    ScheduledChange,
    Topology,
)


class PlannedInterface(msgspec.Struct, frozen=True, kw_only=True):
    """One interface: `mac` as aa:bb:cc:dd:ee:ff, `addresses` in CIDR form, IPv4 first.

    Interfaces of a switch have no addresses, but may have VLANs (see `Interface`). region: the
    number of the private region that the interface is in, None where its addresses are public.
    """

    node: str
    name: str
    mac: str
    mtu: int = 1500
    offload: bool = False
    addresses: tuple[str, ...] = ()
    vlan: int | None = None
    vlans: tuple[int, ...] = ()
    region: int | None = None

    def __str__(self) -> str:
        return f"{self.node}:{self.name}"


class PlannedRoute(msgspec.Struct, frozen=True, kw_only=True):
    """`destination` in CIDR form; `via` is None for a directly connected prefix.

    The kernel makes connected routes by itself when an address is added; a plan lists one only
    where it carries metrics of its own.
    """

    destination: str
    interface: str
    via: str | None = None
    metrics: RouteMetrics = RouteMetrics()


class PlannedNeighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A permanent ARP/ND entry, so that the first packet of a link does not pay for resolution.

    Given for both ends of a link between two nodes that are no switches.
    """

    interface: str
    address: str
    mac: str


class PlannedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node ready to be built.

    outside: the interfaces on a middlebox's outer side. loopback: addresses in CIDR form beside
    those of its interfaces.
    """

    name: str
    kind: str
    interfaces: tuple[PlannedInterface, ...] = ()
    routes: tuple[PlannedRoute, ...] = ()
    neighbours: tuple[PlannedNeighbour, ...] = ()
    sysctls: dict[str, str] = {}
    congestion_control: str | None = None
    outside: tuple[str, ...] = ()
    loopback: tuple[str, ...] = ()


class PlannedLink(msgspec.Struct, frozen=True, kw_only=True):
    """Two planned interfaces; `forward` is from `a` to `b`.

    log: whether the fate of every packet is to be written down.
    """

    a: PlannedInterface
    b: PlannedInterface
    forward: Impairments
    reverse: Impairments
    offload: bool
    emulated: bool
    schedule: tuple[ScheduledChange, ...] = ()
    log: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a lab needs; `nodes` is in the order in which they are built."""

    topology: Topology
    nodes: dict[str, PlannedNode]
    links: tuple[PlannedLink, ...]
    captures: tuple[Endpoint, ...]

    def addresses(
        self, node: str, family: int = 4, seen_from: str | None = None
    ) -> tuple[str, ...]:
        """All addresses of a node without prefix length, in interface order, loopback last.

        family: 4 or 6. seen_from: a node; without the addresses in private regions that it is not
        in, where the same ones may be others'. Raises KeyError for an unknown node.
        """
        planned = self.nodes[node]
        beside = planned if seen_from is None else self.nodes[seen_from]
        regions = {None, *(one.region for one in beside.interfaces)}
        of_links = (
            address
            for one in planned.interfaces
            if one.region in regions
            for address in one.addresses
        )
        return tuple(
            address.split("/")[0]
            for address in (*of_links, *planned.loopback)
            if (":" in address) == (family == 6)
        )

    def all_addresses(self, node: str) -> tuple[str, ...]:
        """Those of IPv4, then those of IPv6."""
        return self.addresses(node, 4) + self.addresses(node, 6)

    @property
    def preferred_families(self) -> tuple[int, int]:
        """4 and 6, in the order in which a name stands for addresses."""
        return (6, 4) if self.topology.prefer == "ipv6" else (4, 6)

    def address(self, node: str, seen_from: str | None = None) -> str | None:
        """The one address that a node's name stands for; None where it has none.

        seen_from: a node; an address of a family that it has, too, comes before others, and one in
        a private region that it is not in is none.
        """
        families = sorted(
            self.preferred_families,
            key=lambda family: seen_from is not None and not self.addresses(seen_from, family),
        )
        found = (one for each in families for one in self.addresses(node, each, seen_from))
        return next(found, None)

    def names(self, seen_from: str) -> tuple[tuple[str, str], ...]:
        """(address, node) for all that names stand for in a node, the preferred family first."""
        return tuple(
            (address, name)
            for family in self.preferred_families
            for name in self.nodes
            for address in self.addresses(name, family, seen_from)
        )
