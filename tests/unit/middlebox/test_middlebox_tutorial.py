"""The tutorial's function is one, and does without a lab what the tutorial says."""

from __future__ import annotations

import importlib
import sys
import tomllib

import pytest
from tutorial import install

from testbed.middlebox import registry


@pytest.fixture
def installed(tmp_path, monkeypatch):
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    registry.functions()
    before = dict(registry._registered)
    yield tmp_path
    sys.modules.pop("first_loss", None)
    registry._registered.clear()
    registry._registered.update(before)


def test_it_is_found_by_the_entry_point(installed):
    named = tomllib.loads((installed / "pyproject.toml").read_text())
    (group,) = named["project"]["entry-points"]
    assert group == registry.ENTRY_POINTS
    registry._discover.__wrapped__()
    found = registry.find("first-loss")
    assert found is importlib.import_module("first_loss").FirstLoss
    text = found.Options.__doc__ or ""
    assert all(option in text for option in found.Options.__struct_fields__)


def test_it_does_in_the_pipeline_what_the_tutorial_says(installed):
    source = (installed / "try_it.py").read_text()
    assert source.count("assert ") == 3
    exec(compile(source, "try_it.py", "exec"), {"__name__": "try_it"})
