from __future__ import annotations

from collections.abc import Iterator

import faces_ordinary_user
import pytest


@pytest.fixture(scope="session")
def ordinary_user() -> Iterator[faces_ordinary_user.OrdinaryUser]:
    """Nobody, who can run Python with testbed."""
    with faces_ordinary_user.ordinary_user() as user:
        yield user
