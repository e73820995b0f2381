"""The topology: a description of a network as frozen data.

Nothing in here touches the kernel. Quantities are in base units (seconds, bits per second,
bytes, probabilities from 0 to 1); text with units is parsed once, by `testbed.topology.units`,
when a YAML file is loaded.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

Seconds: TypeAlias = float
BitsPerSecond: TypeAlias = float
Probability: TypeAlias = float

NodeKind: TypeAlias = Literal["host", "router", "switch", "middlebox"]
EmulatorName: TypeAlias = Literal["auto", "userspace", "netem"]


class QueueLimit(msgspec.Struct, frozen=True):
    """How much may wait for the bottleneck; packets in flight never count.

    `bdp` is a multiple of rate x round-trip delay of the link, `seconds` a multiple of the rate.
    """

    amount: float
    unit: Literal["packets", "bytes", "seconds", "bdp"]


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """The queue in front of a link's rate: drop-tail with a limit."""

    limit: QueueLimit = QueueLimit(1000, "packets")


class Impairments(msgspec.Struct, frozen=True, kw_only=True):
    """What one direction of a link does to packets.

    rate: bit/s at the bottleneck, None for unlimited; delay: one-way propagation in seconds,
    after the queue; loss: probability of an independent drop per packet.
    """

    rate: BitsPerSecond | None = None
    delay: Seconds = 0.0
    loss: Probability = 0.0
    queue: Queue = Queue()

    @property
    def harmless(self) -> bool:
        """Whether packets pass as over a plain cable."""
        return self.rate is None and self.delay == 0 and self.loss == 0


class Endpoint(msgspec.Struct, frozen=True):
    """One end of a link, written `node:interface`."""

    node: str
    interface: str

    def __str__(self) -> str:
        return f"{self.node}:{self.interface}"


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Two interfaces joined.

    `forward` is what happens from the first endpoint to the second, `reverse` the other way.
    `emulated` puts an emulator in the path even of a link without impairments, so that it can be
    cut or impaired while the lab runs. `subnets` (at most one IPv4 and one IPv6) are chosen by
    the plan when empty.
    """

    endpoints: tuple[Endpoint, Endpoint]
    forward: Impairments = Impairments()
    reverse: Impairments = Impairments()
    mtu: int = 1500
    offload: bool = False
    emulated: bool = False
    subnets: tuple[str, ...] = ()

    @property
    def needs_emulator(self) -> bool:
        return self.emulated or not (self.forward.harmless and self.reverse.harmless)


class RouteMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Per-route TCP settings, as `ip route` has them (include/uapi/linux/rtnetlink.h, RTAX_*)."""

    rto_min: Seconds | None = None
    initcwnd: int | None = None
    initrwnd: int | None = None
    advmss: int | None = None
    mtu: int | None = None
    congestion_control: str | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route of one node: to a node, a prefix (`10.1.0.0/16`) or `default`.

    Without `via` the plan's next hop is kept and only the metrics are added to it.
    """

    to: str
    via: str | None = None
    metrics: RouteMetrics = RouteMetrics()


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one interface; `addresses` such as `10.0.0.1/24` are chosen when empty."""

    addresses: tuple[str, ...] = ()


class Function(msgspec.Struct, frozen=True):
    """A middlebox function by name with its options, still unchecked by the function itself."""

    name: str
    options: dict[str, Any] = {}


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One host of the topology.

    congestion_control becomes an attribute of every route of the node. outside names the
    neighbour (or interface) on the outer side of a middlebox; all other interfaces are inside.
    """

    name: str
    kind: NodeKind = "host"
    congestion_control: str | None = None
    sysctls: dict[str, str] = {}
    routes: tuple[Route, ...] = ()
    interfaces: dict[str, Interface] = {}
    outside: str | None = None
    functions: tuple[Function, ...] = ()


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """A whole network; `nodes` is keyed by name, groups are already expanded."""

    name: str
    description: str = ""
    scenario: str | None = None
    nodes: dict[str, Node]
    links: tuple[Link, ...] = ()
    captures: tuple[Endpoint, ...] = ()
    emulator: EmulatorName = "auto"
    seed: int = 0
