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

    Interfaces of a switch have no addresses.
    """

    node: str
    name: str
    mac: str
    mtu: int = 1500
    offload: bool = False
    addresses: tuple[str, ...] = ()


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
    """A node ready to be built; `outside` lists the interfaces on a middlebox's outer side."""

    name: str
    kind: str
    interfaces: tuple[PlannedInterface, ...] = ()
    routes: tuple[PlannedRoute, ...] = ()
    neighbours: tuple[PlannedNeighbour, ...] = ()
    sysctls: dict[str, str] = {}
    congestion_control: str | None = None
    outside: tuple[str, ...] = ()


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

    def addresses(self, node: str, family: int = 4) -> tuple[str, ...]:
        """All addresses of a node without prefix length, in interface order.

        family: 4 or 6. Raises KeyError for an unknown node.
        """
        return tuple(
            address.split("/")[0]
            for interface in self.nodes[node].interfaces
            for address in interface.addresses
            if (":" in address) == (family == 6)
        )
