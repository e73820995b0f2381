"""Every test of a lab also tests that the lab gives back all that it took."""

from __future__ import annotations

import gc

import pytest
from lab_topologies import belongings, since


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Every test of a lab also tests that the lab gives back all that it took."""
    before = belongings()
    yield
    left = since(before)
    if any(left.values()):
        gc.collect()  # what a test itself held on to
        left = since(before)
    assert not any(left.values()), left
