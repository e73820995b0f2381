from __future__ import annotations

from collections.abc import Iterator

import faces_ordinary_user
import pytest
from faces_pytest_project import NO_OTHERS, PAIR


@pytest.fixture(scope="session")
def ordinary_user() -> Iterator[faces_ordinary_user.OrdinaryUser]:
    """Nobody, who can run Python with testbed."""
    with faces_ordinary_user.ordinary_user() as user:
        yield user


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with a topology named `pair`."""
    for name, value in NO_OTHERS.items():
        monkeypatch.setenv(name, value)
    (pytester.path / "topologies").mkdir()
    (pytester.path / "topologies" / "pair.yaml").write_text(PAIR)
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    return pytester
