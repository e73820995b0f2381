"""A network as a picture: which nodes, where, and what is said of each link. Pure.

The layout depends on the topology alone: nodes stand in columns by their distance from one end of
the longest way through the network, in each column near the nodes before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

import msgspec

from testbed.report.impairment_words import in_a_line
from testbed.topology.broadcast_domains import LOOPBACK
from testbed.topology.model import DirectionName, Impairments
from testbed.topology.planning.plan_model import Plan, PlannedLink, PlannedNode

#: The impairments in force, forward and reverse, and the directions that are cut.
LinkState: TypeAlias = tuple[Impairments, Impairments, frozenset[DirectionName]]


class PictureNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node at its place; lines: its interfaces with their addresses, and its functions."""

    name: str
    kind: str
    lines: tuple[str, ...]
    column: int
    row: int


class PictureLink(msgspec.Struct, frozen=True, kw_only=True):
    """A link between two nodes; lines: what it does to packets; cut: both ways."""

    a: str
    b: str
    ends: str
    lines: tuple[str, ...]
    cut: bool


class NetworkPicture(msgspec.Struct, frozen=True, kw_only=True):
    """All that there is to draw."""

    title: str
    nodes: tuple[PictureNode, ...]
    links: tuple[PictureLink, ...]

    @property
    def columns(self) -> list[list[PictureNode]]:
        """The nodes of each column, from top to bottom."""
        count = max((node.column for node in self.nodes), default=-1) + 1
        columns: list[list[PictureNode]] = [[] for _ in range(count)]
        for node in sorted(self.nodes, key=lambda node: node.row):
            columns[node.column].append(node)
        return columns


def as_planned(link: PlannedLink) -> LinkState:
    """The state of a link of which nothing has been changed."""
    return link.forward, link.reverse, frozenset()


def network_picture(
    plan: Plan, state: Callable[[PlannedLink], LinkState] = as_planned
) -> NetworkPicture:
    """The picture of a plan, or of a lab where `state` tells of its links as they are now."""
    places = _places(plan)
    nodes = tuple(
        PictureNode(
            name=node.name,
            kind=node.kind,
            lines=tuple(_lines_of_node(plan, node)),
            column=places[node.name][0],
            row=places[node.name][1],
        )
        for node in plan.nodes.values()
    )
    topology = plan.topology
    title = f"{topology.name}: {topology.description}" if topology.description else topology.name
    links = tuple(_link(link, *state(link)) for link in plan.links)
    return NetworkPicture(title=title, nodes=nodes, links=links)


def _lines_of_node(plan: Plan, node: PlannedNode) -> Iterable[str]:
    for interface in node.interfaces:
        if interface.addresses:
            yield f"{interface.name} {', '.join(interface.addresses)}"
    if node.loopback:
        yield f"{LOOPBACK} {', '.join(node.loopback)}"
    yield from (function.name for function in plan.topology.nodes[node.name].functions)


def _link(
    link: PlannedLink,
    forward: Impairments,
    reverse: Impairments,
    cut: frozenset[DirectionName],
) -> PictureLink:
    ways: dict[DirectionName, str] = {"forward": in_a_line(forward), "reverse": in_a_line(reverse)}
    for direction in cut:
        ways[direction] = ", ".join(filter(None, ["cut", ways[direction]]))
    there, back = ways["forward"], ways["reverse"]
    lines: tuple[str, ...] = (there,) if there else ()
    if there != back:
        lines = (
            f"to {link.b.node}: {there or 'nothing'}",
            f"to {link.a.node}: {back or 'nothing'}",
        )
    return PictureLink(
        a=link.a.node,
        b=link.b.node,
        ends=f"{link.a.name} - {link.b.name}",
        lines=lines,
        cut=len(cut) == 2,
    )


def _places(plan: Plan) -> dict[str, tuple[int, int]]:
    """Column and row of each node; parts that no link joins stand below each other."""
    neighbours: dict[str, list[str]] = {name: [] for name in plan.nodes}
    for link in plan.links:
        neighbours[link.a.node].append(link.b.node)
        neighbours[link.b.node].append(link.a.node)
    places: dict[str, tuple[int, int]] = {}
    for name in plan.nodes:
        if name in places:
            continue
        top = max((row for _, row in places.values()), default=-1) + 1
        distances = _distances(neighbours, _far_end(neighbours, _far_end(neighbours, name)))
        for column, row, node in _rows(neighbours, distances):
            places[node] = column, top + row
    return places


def _distances(neighbours: Mapping[str, list[str]], start: str) -> dict[str, int]:
    """How many links away each node is, the nearest first."""
    found = {start: 0}
    for node in (waiting := [start]):
        for other in neighbours[node]:
            if other not in found:
                found[other] = found[node] + 1
                waiting.append(other)
    return found


def _far_end(neighbours: Mapping[str, list[str]], start: str) -> str:
    """A node farthest away; of several the one that comes first in the topology."""
    distances = _distances(neighbours, start)
    farthest = max(distances.values())
    return next(name for name in neighbours if distances.get(name) == farthest)


def _rows(
    neighbours: Mapping[str, list[str]], distances: Mapping[str, int]
) -> Iterable[tuple[int, int, str]]:
    """Column, row and name, where each node is near the middle of those before it."""
    rows: dict[str, int] = {}

    def middle(node: str) -> float:
        before = [rows[other] for other in neighbours[node] if distances[other] < distances[node]]
        return sum(before) / len(before) if before else 0.0

    for column in range(max(distances.values()) + 1):
        here = [node for node in neighbours if distances.get(node) == column]
        for row, node in enumerate(sorted(here, key=middle)):
            rows[node] = row
            yield column, row, node
