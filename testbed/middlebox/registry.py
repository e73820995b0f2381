"""The middlebox functions there are: found by name, added by decorator or entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeVar

import msgspec

from testbed.discovery import discover
from testbed.errors import LabError
from testbed.middlebox.function import Function
from testbed.wording import suggestion

ENTRY_POINTS = "testbed.middlebox_functions"

_registered: dict[str, type[Function]] = {}

FunctionType = TypeVar("FunctionType", bound=type[Function])


def function(name: str) -> Callable[[FunctionType], FunctionType]:
    """Class decorator: make a middlebox function known as `name`.

    Raises ValueError when another class has that name.
    """

    def register(function_type: FunctionType) -> FunctionType:
        known = _registered.get(name)
        if known is not None and known.__qualname__ != function_type.__qualname__:
            raise ValueError(f"middlebox function '{name}' is {known.__qualname__} already")
        function_type.name = name
        _registered[name] = function_type
        return function_type

    return register


def functions() -> Mapping[str, type[Function]]:
    """Every function by name: this package's, then those of installed distributions."""
    _discover()
    return dict(sorted(_registered.items()))


def function_options() -> dict[str, type[msgspec.Struct]]:
    """The options of every function, for whoever reads topologies."""
    return {name: known.Options for name, known in functions().items()}


def find(name: str) -> type[Function]:
    """The function called `name`. Raises LabError that names the nearest one."""
    known = functions()
    if name not in known:
        raise LabError(
            f"there is no middlebox function '{name}'; known are {', '.join(known)}"
            f"{suggestion(name, known)}"
        )
    return known[name]


@cache
def _discover() -> None:
    discover("testbed.middlebox.functions", ENTRY_POINTS, "middlebox function", LabError)
