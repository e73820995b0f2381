"""Modules of this package in processes of their own, run by this very interpreter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: The folder that this package is imported from.
_IMPORTED_FROM = str(Path(__file__).resolve().parents[__name__.count(".")])


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module; no file in the current folder can replace one."""
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment() -> dict[str, str]:
    """This process's environment, by which a child finds the same package however it was found."""
    path = os.pathsep.join(filter(None, [_IMPORTED_FROM, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}
