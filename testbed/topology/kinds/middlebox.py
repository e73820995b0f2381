"""A middlebox: a router whose forwarded packets pass through functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from testbed.topology.kinds.kind import NodeKind
from testbed.topology.kinds.registry import node_kind
from testbed.topology.model import Node
from testbed.topology.problems import Problem
from testbed.wording import join, quote, suggestion


@node_kind("middlebox")
class Middlebox(NodeKind):
    """Has an outer and an inner side; packets from one to the other pass through its functions."""

    forwards = True
    takes = frozenset({"functions", "outside"})
    needs = ("emulation",)  # a TUN device

    def neighbour_problems(self, node: Node, neighbours: Mapping[str, str]) -> Iterator[Problem]:
        """Both sides must have interfaces."""
        nodes = sorted(set(neighbours.values()))
        if node.outside is None:
            text = (
                "a middlebox needs `outside:`, the neighbour (or own interface) on its outer side"
            )
            yield Problem((), f"{text}: {join(nodes)}" if nodes else text)
            return
        outside = self.outside(node, neighbours)
        if not outside:
            candidates = [*neighbours, *nodes]
            near = suggestion(node.outside, candidates) or (
                f"; there is {join(candidates[:6])}" if candidates else ""
            )
            text = f"is neither an interface nor a neighbour of {node.name}{near}"
            yield Problem(("outside",), f"{quote(node.outside)} {text}")
        elif len(outside) == len(neighbours):
            text = "all interfaces are outside; a middlebox needs at least one other, the inside"
            yield Problem(("outside",), text)

    def outside(self, node: Node, neighbours: Mapping[str, str]) -> tuple[str, ...]:
        """The interface that `outside` names, or all those to the neighbour that it names."""
        if node.outside is None:
            return ()
        if node.outside in neighbours:
            return (node.outside,)
        return tuple(name for name, other in neighbours.items() if other == node.outside)

    def shown(self, node: Node) -> Iterator[str]:
        """The functions with their options, in order."""
        for function in node.functions:
            options = ", ".join(f"{key}: {value}" for key, value in function.options.items())
            yield f"{function.name}{f' ({options})' if options else ''}"
        yield from super().shown(node)
