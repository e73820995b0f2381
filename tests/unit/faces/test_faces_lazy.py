"""`import testbed` is cheap, and still has everything."""

from __future__ import annotations

import subprocess
import sys

import pytest


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ["pyroute2", "rich", "typer", "yaml", "msgspec", "matplotlib", "asyncio"]
    code = f"import sys, testbed; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["testbed.pytest_plugin", "testbed.cli.app"])
def test_the_faces_import_the_rest_when_it_is_used(module: str) -> None:
    heavy = ["pyroute2", "msgspec", "yaml", "matplotlib"]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
