"""What a kind of node has to say to checks, planning and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from testbed.topology.model import Node
from testbed.topology.problems import Problem
from testbed.topology.values.shapes import Key


class NodeKind:
    """One kind of node; a subclass decorated by `node_kind("name")` adds one.

    name: the word under `kind:`; set by the decorator.
    forwards: whether the node passes on packets that are not for itself.
    has_addresses: whether its interfaces have addresses, and the node routes; a node without
        them joins its links like a switch.
    takes: the fields of `Node` that it has beyond those of all kinds: `functions`, `outside`,
        `kernel`.
    keys: YAML keys of its own; their values stand in `Node.settings`.
    interface_names: prefix and first number of interfaces that have no name in the topology.
    needs: what a machine must have for it beyond namespaces, as `testbed doctor` names it.
    machine_needs: what it needs of this machine that no other kernel has, such as `the docker
        engine`. Then neither the virtual clock nor another kernel can be had, and a lab is refused
        there with this reason.
    keeps_log: whether a lab that fails has a log of it for the folder of captures.
    """

    name: ClassVar[str]
    forwards: ClassVar[bool] = False
    has_addresses: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset()
    keys: ClassVar[tuple[Key, ...]] = ()
    interface_names: ClassVar[tuple[str, int]] = ("eth", 0)
    needs: ClassVar[tuple[str, ...]] = ()
    machine_needs: ClassVar[str] = ""
    keeps_log: ClassVar[bool] = False

    def with_files_of(self, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The values of its keys as a file in that folder means them: names of files are
        relative to it."""
        return dict(settings)

    def problems(self, node: Node) -> Iterator[Problem]:
        """What is wrong with the fields of a node of this kind; paths begin at the node."""
        yield from ()

    def neighbour_problems(self, node: Node, neighbours: Mapping[str, str]) -> Iterator[Problem]:
        """What is wrong with its links; paths begin at the node.

        neighbours: its interfaces, each with the node at the other end of the link.
        """
        yield from ()

    def outside(self, node: Node, neighbours: Mapping[str, str]) -> tuple[str, ...]:
        """The interfaces on the outer side, of a kind that has two sides."""
        return ()

    def shown(self, node: Node) -> Iterator[str]:
        """What `testbed plan` tells of a node beyond addresses, one line each."""
        yield from (f"{name}: {value}" for name, value in node.settings.items())
