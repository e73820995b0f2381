"""The builders of kinds of nodes: found by the kind's name, added by decorator or entry point."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final, TypeVar

from testbed.discovery import discover
from testbed.errors import LabError
from testbed.lab.node_builder import NodeBuilder

ENTRY_POINTS: Final = "testbed.node_builders"

_registered: dict[str, type[NodeBuilder]] = {}

BuilderType = TypeVar("BuilderType", bound=type[NodeBuilder])


def builds(kind: str) -> Callable[[BuilderType], BuilderType]:
    """Class decorator: have nodes of a kind built by this class.

    Raises ValueError when another class does so.
    """

    def register(builder: BuilderType) -> BuilderType:
        known = _registered.get(kind)
        if known is not None and known.__qualname__ != builder.__qualname__:
            raise ValueError(f"nodes of kind '{kind}' are built by {known.__qualname__} already")
        _registered[kind] = builder
        return builder

    return register


def builder_of(kind: str) -> type[NodeBuilder]:
    """The builder of a kind; `NodeBuilder` for kinds that need no more than it makes."""
    _discover()
    return _registered.get(kind, NodeBuilder)


@cache
def _discover() -> None:
    discover("testbed.lab.kinds", ENTRY_POINTS, "builder of nodes", LabError)
