"""What a holder tells of its lab: whole, and link by link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from testbed.emulator.counters import LinkCounters
from testbed.errors import TestbedError
from testbed.report.graph import LinkState, NetworkPicture, network_picture
from testbed.topology.model import DirectionName, Impairments, Topology

if TYPE_CHECKING:
    from testbed.lab import LabLink
    from testbed.living.held import HeldLab
    from testbed.topology.planning.plan_model import PlannedLink, PlannedNode


class NodeDescription(msgspec.Struct, frozen=True, kw_only=True):
    """addresses: in CIDR form, by interface; functions: of a middlebox, the outermost first."""

    name: str
    kind: str
    addresses: dict[str, tuple[str, ...]]
    functions: tuple[str, ...]


class DirectionDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What one direction of a link does to packets, in seconds, bit/s and probabilities."""

    toward: str
    cut: bool
    impairments: Impairments


class LinkDescription(msgspec.Struct, frozen=True, kw_only=True):
    """ends: both as `node:interface`, the order of which is `forward`. emulated: whether it can be
    changed and cut. counters: None where nobody asked, or nothing counts."""

    name: str
    ends: tuple[str, str]
    emulated: bool
    forward: DirectionDescription
    reverse: DirectionDescription
    counters: LinkCounters | None = None


class LabDescription(msgspec.Struct, frozen=True, kw_only=True):
    """state: `failed` when something that the lab depends on has died; failure says what.

    began: when its holder began, in seconds since 1970.
    """

    name: str
    topology: str
    description: str
    source: str
    state: Literal["running", "failed"]
    failure: str
    pid: int
    began: float
    emulator: str
    nodes: tuple[NodeDescription, ...]
    links: tuple[LinkDescription, ...]
    captures: dict[str, str]


def describe_lab(held: HeldLab) -> LabDescription:
    """All of it; of a lab that has failed without what its links do."""
    lab, failure = held.lab, failure_of(held)
    links = () if failure else tuple(describe_link(held, link) for link in lab.links)
    return LabDescription(
        name=held.record.name,
        topology=lab.topology.name,
        description=lab.topology.description,
        source=held.record.source,
        state="failed" if failure else "running",
        failure=failure,
        pid=held.record.pid,
        began=held.record.began,
        emulator=lab.emulator_name,
        nodes=tuple(_node(lab.topology, node) for node in lab.plan.nodes.values()),
        links=links,
        captures={end: str(capture.path) for end, capture in lab.captures.items()},
    )


def failure_of(held: HeldLab) -> str:
    """Why the lab is not what its topology says; empty while it is."""
    try:
        held.lab.check()
    except TestbedError as error:
        return str(error)
    return ""


def _node(topology: Topology, node: PlannedNode) -> NodeDescription:
    return NodeDescription(
        name=node.name,
        kind=node.kind,
        addresses={one.name: one.addresses for one in node.interfaces},
        functions=tuple(function.name for function in topology.nodes[node.name].functions),
    )


def describe_link(held: HeldLab, link: LabLink, *, counted: bool = False) -> LinkDescription:
    """The link as it is now; counted: with what it has counted."""

    def way(direction: DirectionName, toward: str) -> DirectionDescription:
        return DirectionDescription(
            toward=toward,
            cut=held.is_cut(link, direction),
            impairments=link.impairments(direction),
        )

    planned = link.planned
    return LinkDescription(
        name=link.name,
        ends=(str(planned.a), str(planned.b)),
        emulated=planned.emulated,
        forward=way("forward", planned.b.node),
        reverse=way("reverse", planned.a.node),
        counters=link.counters if counted and planned.emulated else None,
    )


def picture_of(held: HeldLab) -> NetworkPicture:
    """The network as it is now; of a lab that has failed, as it was planned."""
    if failure_of(held):
        return network_picture(held.lab.plan)
    links = {id(link.planned): link for link in held.lab.links}

    def state(planned: PlannedLink) -> LinkState:
        link = links[id(planned)]
        cut = frozenset(one for one in link.directions(None) if held.is_cut(link, one))
        return link.impairments("forward"), link.impairments("reverse"), cut

    return network_picture(held.lab.plan, state)
