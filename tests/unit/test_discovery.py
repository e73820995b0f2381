"""Every registry names the installed distribution that it cannot load."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from testbed.errors import LabError, ScenarioError, TopologyError
from testbed.lab.kinds import registry as builders
from testbed.middlebox import registry as functions
from testbed.scenarios import registry as scenarios
from testbed.topology.kinds import registry as kinds


@pytest.mark.parametrize(
    ("registry", "discover", "error"),
    [
        (functions, functions._discover.__wrapped__, LabError),
        (builders, builders._discover.__wrapped__, LabError),
        (kinds, kinds._discover.__wrapped__, TopologyError),
        (scenarios, scenarios.scenarios, ScenarioError),
    ],
    ids=["functions", "builders", "kinds", "scenarios"],
)
@pytest.mark.parametrize(
    ("value", "fault"),
    [("testbed.nowhere:D", "No module named"), ("testbed.errors:Nothing", "has no attribute")],
)
def test_an_entry_point_that_cannot_be_loaded_is_named(
    monkeypatch, registry, discover, error, value, fault
):
    groups = {registry.ENTRY_POINTS: [EntryPoint("d", value, registry.ENTRY_POINTS)]}
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: groups[group])
    with pytest.raises(error, match=rf"'d' of {value} cannot be loaded: .*{fault}.*uninstall"):
        discover()
