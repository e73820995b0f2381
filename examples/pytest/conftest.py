"""Labs with the server running in them."""

from __future__ import annotations

import sys
from pathlib import Path

import fetcher
import pytest

from testbed import Lab


def start_server(lab: Lab) -> None:
    """Returns when the server listens."""
    program = str(Path(fetcher.__file__))
    lab["server"].start([sys.executable, program], listening=fetcher.PORT)


@pytest.fixture
def served(lab: Lab) -> Lab:
    """A lab of the test's own."""
    start_server(lab)
    return lab


@pytest.fixture(scope="module")
def office(shared_lab: Lab) -> Lab:
    """One lab for all tests of a module: for those that leave it as it was."""
    start_server(shared_lab)
    return shared_lab


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run by asyncio."""
    return "asyncio"
