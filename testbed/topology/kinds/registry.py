"""The kinds of nodes there are: found by name, added by decorator or entry point."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final, TypeVar

from testbed.discovery import discover
from testbed.errors import TopologyError
from testbed.topology.kinds.kind import NodeKind
from testbed.topology.model import Topology
from testbed.topology.values.shapes import Key, OneOf

ENTRY_POINTS: Final = "testbed.node_kinds"
_OWN: Final = "testbed.topology.kinds"

_registered: dict[str, NodeKind] = {}

KindType = TypeVar("KindType", bound=type[NodeKind])


def node_kind(name: str) -> Callable[[KindType], KindType]:
    """Class decorator: make a kind of node known as `name`.

    Raises ValueError when another class has that name.
    """

    def register(kind_type: KindType) -> KindType:
        known = _registered.get(name)
        if known is not None and type(known).__qualname__ != kind_type.__qualname__:
            raise ValueError(f"node kind '{name}' is {type(known).__qualname__} already")
        kind_type.name = name
        _registered[name] = kind_type()
        return kind_type

    return register


def names() -> tuple[str, ...]:
    """The names of all kinds in order: this package's, then those of installed distributions."""
    _discover()
    foreign = {
        name: not type(kind).__module__.startswith(_OWN) for name, kind in _registered.items()
    }
    return tuple(sorted(_registered, key=lambda name: (foreign[name], name)))


def find(name: str) -> NodeKind | None:
    """The kind called `name`, or None."""
    _discover()
    return _registered.get(name)


def keys_of_kinds() -> tuple[Key, ...]:
    """The YAML keys that single kinds have of their own."""
    return tuple(key for name in names() for key in _registered[name].keys)


def machine_needs(topology: Topology) -> str:
    """Which of its nodes needs what of this machine that no other kernel has; empty for none."""
    for node in topology.nodes.values():
        kind = find(node.kind)
        if kind is not None and kind.machine_needs:
            return f"the {node.kind} '{node.name}' needs {kind.machine_needs} of this machine"
    return ""


KIND: Final = OneOf("kind", names)


@cache
def _discover() -> None:
    discover(_OWN, ENTRY_POINTS, "node kind", lambda fault: TopologyError([fault]))
