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

DirectionName: TypeAlias = Literal["forward", "reverse"]
FamilyName: TypeAlias = Literal["both", "ipv4", "ipv6"]
EmulatorName: TypeAlias = Literal["auto", "userspace", "netem"]


class QueueLimit(msgspec.Struct, frozen=True):
    """How much may wait for the bottleneck; packets in flight never count.

    `bdp` is a multiple of rate x round-trip delay of the link, `seconds` a multiple of the rate.
    """

    amount: float
    unit: Literal["packets", "bytes", "seconds", "bdp"]


class Red(msgspec.Struct, frozen=True, kw_only=True, tag="red", tag_field="discipline"):
    """Random early detection (Floyd and Jacobson 1993; net/sched/sch_red.c).

    Between `minimum` and `maximum` bytes of average queue, packets are dropped or marked with a
    probability that rises to `probability`; above, all are. None: a twelfth and a quarter of the
    queue's limit. `weight` is that of the newest sample in the average.
    """

    minimum: float | None = None
    maximum: float | None = None
    probability: Probability = 0.1
    weight: float = 0.002


class Codel(msgspec.Struct, frozen=True, kw_only=True, tag="codel", tag_field="discipline"):
    """Controlled delay (RFC 8289): drops or marks when packets wait longer than `target` for a
    whole `interval`."""

    target: Seconds = 0.005
    interval: Seconds = 0.1


class KernelAqm(msgspec.Struct, frozen=True, kw_only=True, tag="kernel", tag_field="discipline"):
    """A discipline that only the kernel has, with its defaults: the netem emulator's alone."""

    name: Literal["fq_codel", "pie", "cake"]


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """The queue in front of a link's rate: drop-tail with a limit, or managed by `aqm`.

    ecn: the discipline marks packets of ECN-capable transports instead of dropping them
    (RFC 3168).
    """

    limit: QueueLimit = QueueLimit(1000, "packets")
    aqm: Red | Codel | KernelAqm | None = None
    ecn: bool = False


class Jitter(msgspec.Struct, frozen=True, kw_only=True):
    """Variation of the delay: `spread` is the standard deviation, or, when uniform, the furthest.

    normal is cut off at 4 spreads; pareto has shape 3, no variation below -0.58 spreads and is
    cut off at 4. correlation: how much of the last random number each one keeps, as in netem,
    where it narrows the distribution. Unless `reorder` is set, a packet that would overtake the
    one before it arrives together with it.
    """

    spread: Seconds
    distribution: Literal["normal", "uniform", "pareto"] = "normal"
    correlation: Probability = 0.0
    reorder: bool = False


class Chance(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happens to each packet with a probability.

    correlation: how much of the last random number each one keeps. As in netem, correlated
    events are rarer than `probability` says when that is below one half.
    """

    probability: Probability
    correlation: Probability = 0.0


class Reorder(msgspec.Struct, frozen=True, kw_only=True):
    """Packets that skip the delay and so overtake those under way (tc-netem(8), reorder).

    gap: only every gap-th packet is a candidate, with `probability`; 1 means every packet.
    """

    probability: Probability
    correlation: Probability = 0.0
    gap: int = 1


class Corrupt(msgspec.Struct, frozen=True, kw_only=True):
    """One bit flipped at random; checksums are left as they were, and so are wrong.

    where: anywhere in the frame as in netem, or only in the IP and transport headers, or only in
    what follows them. A frame that has none of it passes as it is.
    """

    probability: Probability
    correlation: Probability = 0.0
    where: Literal["any", "header", "payload"] = "any"


class GilbertElliott(
    msgspec.Struct, frozen=True, kw_only=True, tag="gilbert-elliott", tag_field="model"
):
    """Losses in bursts: a good and a bad state with a loss probability each (tc-netem(8)).

    p: from good to bad, per packet; r: from bad to good, None for 1 - p.
    """

    p: Probability
    r: Probability | None = None
    bad_loss: Probability = 1.0
    good_loss: Probability = 0.0


class FourState(msgspec.Struct, frozen=True, kw_only=True, tag="state", tag_field="model"):
    """The general and intuitive loss model of tc-netem(8), `loss state`.

    States: 1 good, 2 good within a burst, 3 lost within a burst, 4 lost alone. pXY: from state X
    to state Y, per packet; p31 None for 1 - p13. From 4 it always goes back to 1.
    """

    p13: Probability
    p31: Probability | None = None
    p32: Probability = 0.0
    p23: Probability = 1.0
    p14: Probability = 0.0


class DropRule(msgspec.Struct, frozen=True, kw_only=True):
    """One packet of a direction that is to be lost; numbers start at 1. Exactly one of:

    packet: the n-th IP packet (neighbour discovery and multicast do not count);
    data_segment: the n-th TCP segment with new data;
    retransmission: the n-th TCP segment that repeats sequence numbers;
    flags, such as SYN or FIN+ACK: the `nth` TCP segment that has all of these flags; SYN alone
    does not mean SYN+ACK.

    connection: count only in the n-th TCP connection that the direction sees.
    """

    packet: int | None = None
    data_segment: int | None = None
    retransmission: int | None = None
    flags: str | None = None
    nth: int = 1
    connection: int | None = None


class RateTrace(msgspec.Struct, frozen=True):
    """A varying rate, as mahimahi's traces give it: milliseconds at which one full-sized packet
    may pass. Starts again when it has come to its end."""

    opportunities: tuple[int, ...]


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """Impairments for a part of a direction's packets, as if these came over a link of their own.

    to, source: names of nodes, or addresses or prefixes, of which one has to fit; the plan has
    addresses only. port: of either end. What is None or empty leaves the choice open.
    """

    to: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    protocol: Literal["tcp", "udp", "icmp"] | None = None
    port: int | None = None
    impairments: Impairments


class Impairments(msgspec.Struct, frozen=True, kw_only=True):
    """What one direction of a link does to packets.

    rate: bit/s at the bottleneck, None for unlimited; rate_trace: a rate that varies, instead;
    overhead: bytes that each frame occupies the bottleneck for beyond its own; delay: one-way
    propagation in seconds, after the queue; loss: probability of an independent drop per packet;
    loss_model: losses that depend on each other, instead; drop: packets to be lost for certain.
    match: further impairments for some packets, of which the first that fits holds.
    """

    rate: BitsPerSecond | None = None
    delay: Seconds = 0.0
    loss: Probability = 0.0
    queue: Queue = Queue()
    rate_trace: RateTrace | None = None
    overhead: int = 0
    jitter: Jitter | None = None
    loss_model: GilbertElliott | FourState | None = None
    drop: tuple[DropRule, ...] = ()
    duplicate: Chance | None = None
    reorder: Reorder | None = None
    corrupt: Corrupt | None = None
    match: tuple[Match, ...] = ()

    @property
    def harmless(self) -> bool:
        """Whether packets pass as over a plain cable."""
        return self == Impairments(queue=self.queue)


class ScheduledChange(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to a link `at` seconds after its schedule has begun.

    direction: None for both. changes: fields of `Impairments` by name, in base units; the others
    stay as they are. cut: True loses all that enters, False ends that, None leaves it. plugged:
    False pulls the cable out, so that both ends see it, True puts it back, None leaves it.
    """

    at: Seconds
    direction: DirectionName | None = None
    changes: dict[str, Any] = {}
    cut: bool | None = None
    plugged: bool | None = None


class Endpoint(msgspec.Struct, frozen=True):
    """One end of a link, written `node:interface`."""

    node: str
    interface: str

    def __str__(self) -> str:
        return f"{self.node}:{self.interface}"


class CapturePoint(Endpoint, frozen=True):
    """An interface to capture; snap: bytes that are kept of each frame, None for all of them."""

    snap: int | None = None


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Two interfaces joined.

    `forward` is what happens from the first endpoint to the second, `reverse` the other way.
    `emulated` puts an emulator in the path even of a link without impairments, so that it can be
    cut or impaired while the lab runs; `schedule` does so by itself. `log` asks for the fate of
    every packet, as a file. `subnets` (at most one IPv4 and one IPv6) are chosen by
    the plan when empty. family: None for that of the topology. private: see
    `testbed.topology.broadcast_domains.regions`.
    """

    endpoints: tuple[Endpoint, Endpoint]
    forward: Impairments = Impairments()
    reverse: Impairments = Impairments()
    mtu: int = 1500
    offload: bool = False
    emulated: bool = False
    subnets: tuple[str, ...] = ()
    family: FamilyName | None = None
    private: bool = False
    schedule: tuple[ScheduledChange, ...] = ()
    log: bool = False

    @property
    def needs_emulator(self) -> bool:
        harmless = self.forward.harmless and self.reverse.harmless
        return self.emulated or self.log or bool(self.schedule) or not harmless


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
    """Settings of one interface; `addresses` such as `10.0.0.1/24` are chosen when empty.

    Those of `lo`, of which each is a subnet of its own, are the node's whichever link it loses.
    Of a switch: `vlan` is what frames belong to that come without a tag, None for the one network
    of interfaces that have neither; `vlans` are those whose frames have tags (IEEE 802.1Q).
    """

    addresses: tuple[str, ...] = ()
    vlan: int | None = None
    vlans: tuple[int, ...] = ()


class FunctionSpec(msgspec.Struct, frozen=True):
    """A middlebox function by name with its options, still unchecked by the function itself."""

    name: str
    options: dict[str, Any] = {}


class Ruleset(msgspec.Struct, frozen=True):
    """What a file for the `nft` program says; `file` is what messages call it."""

    file: str
    text: str


class KernelFunctions(msgspec.Struct, frozen=True, kw_only=True):
    """What the node's own kernel is to do to packets beyond forwarding them."""

    nftables: Ruleset


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One host of the topology.

    kind: the name of a `testbed.topology.kinds.NodeKind`.
    congestion_control: becomes an attribute of every route of the node.
    outside: the neighbour (or interface) on the outer side of a middlebox; all other interfaces
        are inside.
    kernel: of hosts and routers.
    settings: values of the keys that only its kind has.
    """

    name: str
    kind: str = "host"
    congestion_control: str | None = None
    sysctls: dict[str, str] = {}
    routes: tuple[Route, ...] = ()
    interfaces: dict[str, Interface] = {}
    outside: str | None = None
    functions: tuple[FunctionSpec, ...] = ()
    kernel: KernelFunctions | None = None
    settings: dict[str, Any] = {}


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """A whole network; `nodes` is keyed by name, groups are already expanded.

    captures: interfaces, or `CapturePoint`s where not all of a frame is kept.

    emulator_processes: how many share the links (userspace only). max_lateness: how late the
    emulator may hand over the 99th percentile of packets before a run is not to be trusted.
    family: which addresses links have. prefer: which addresses the name of a node stands for first.
    """

    name: str
    description: str = ""
    scenario: str | None = None
    nodes: dict[str, Node]
    links: tuple[Link, ...] = ()
    captures: tuple[Endpoint, ...] = ()
    emulator: EmulatorName = "auto"
    emulator_processes: int = 1
    max_lateness: Seconds = 0.005
    seed: int = 0
    family: FamilyName = "both"
    prefer: Literal["ipv4", "ipv6"] = "ipv4"

    @property
    def round_trip(self) -> Seconds:
        """Propagation there and back over all links, where they make up one path."""
        return sum(link.forward.delay + link.reverse.delay for link in self.links)
