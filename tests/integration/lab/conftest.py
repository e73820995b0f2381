"""Every test of a lab also tests that the lab gives back all that it took."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from lab_topologies import belongings, since
from own_engine import OwnEngine, obstacle


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


@pytest.fixture(scope="session")
def session_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEngine]:
    """A container engine for all tests, with a base image."""
    if reason := obstacle():
        pytest.skip(reason)
    engine = OwnEngine(tmp_path_factory.mktemp("engine"))
    try:
        engine.start()
        engine.import_base()
        yield engine
    finally:
        engine.stop()


@pytest.fixture
def engine(session_engine: OwnEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnEngine]:
    """The engine, which labs find, and which has no more containers at the end."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{session_engine.path}")
    before = session_engine.containers()
    yield session_engine
    assert session_engine.containers() == before
