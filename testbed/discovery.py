"""How the registries find what they list: modules of a package, and installed distributions."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

from testbed.errors import TestbedError


def modules_of(package: str) -> list[ModuleType]:
    """Import every module of a package, in the order of their names."""
    path = importlib.import_module(package).__path__
    return [
        importlib.import_module(module.name) for module in pkgutil.iter_modules(path, f"{package}.")
    ]


def discover(
    package: str, group: str, what: str, error: Callable[[str], TestbedError]
) -> list[Any]:
    """Every module of a package, then what the entry points of a group name.

    what: what an entry point of the group adds, for messages.
    error: makes the error that is raised for an entry point that cannot be loaded.
    """
    from importlib.metadata import entry_points  # slow to import

    found: list[Any] = list(modules_of(package))
    for entry_point in entry_points(group=group):
        try:
            found.append(entry_point.load())
        except (ImportError, AttributeError) as fault:
            raise error(
                f"The {what} '{entry_point.name}' of {entry_point.value} cannot be loaded: "
                f"{fault}; mend or uninstall the distribution that brings it."
            ) from fault
    return found
