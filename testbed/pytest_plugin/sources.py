"""From markers, parameters and options to the plan of a lab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import LabError
from testbed.loading import checked, load, topology_path, with_overrides
from testbed.pytest_plugin.options import EMULATOR
from testbed.topology.model import Topology
from testbed.topology.planning.plan import plan
from testbed.topology.planning.plan_model import Plan


def plan_of_request(request: pytest.FixtureRequest) -> Plan:
    """The plan that a fixture's marker, its parameter and the command line ask for.

    The parameter, where there is one, is a topology instead of the marker's, or overrides more.
    """
    marker = request.node.get_closest_marker("topology")
    parameter = getattr(request, "param", None)
    overrides = {} if marker is None else dict(marker.kwargs)
    if isinstance(parameter, Mapping):
        overrides |= parameter
        parameter = None
    if parameter is not None:
        source = parameter
    elif marker is not None and len(marker.args) == 1:
        (source,) = marker.args
    else:
        raise LabError(
            f"The `{request.fixturename}` fixture needs to know its topology: mark the "
            f"{'test' if request.scope == 'function' else request.scope} with "
            '`pytest.mark.topology("path or name")`, or parametrise '
            f"`{request.fixturename}` indirectly."
        )
    # A module is its own folder's, a package is a folder.
    return plan_of(request.config, source, overrides, (request.path.parent,))


def plan_of(
    config: pytest.Config, source: object, overrides: Mapping[str, Any], near: Sequence[Path] = ()
) -> Plan:
    """The plan of a topology; paths are looked for from pytest's root directory, then in `near`."""
    if isinstance(source, Topology):
        topology = source
    elif isinstance(source, str | Path):
        topology = load(topology_path(source, (config.rootpath, *near)))
    else:
        raise LabError(f"A topology is a path, a name or a Topology, not {source!r}.")
    emulator = config.getoption(EMULATOR, None)
    if emulator is not None:
        overrides = {"emulator": emulator, **overrides}
    return plan(checked(with_overrides(topology, overrides)))


def words_of(value: object) -> str | None:
    """What a parameter is called in the name of its test, None to leave that to pytest."""
    if isinstance(value, Topology):
        return value.name
    if isinstance(value, Mapping):
        return ",".join(_flat(value)) or "unchanged"
    return value.stem if isinstance(value, Path) else None


def _flat(overrides: Mapping[Any, Any]) -> list[str]:
    """`{"links": {("a", "b"): {"loss": "1%"}}}` as `a-b:loss=1%`."""
    found = []
    for key, value in overrides.items():
        if isinstance(value, Mapping):
            name = "-".join(map(str, key)) if isinstance(key, tuple) else ""
            found += [f"{name}:{one}" if name else one for one in _flat(value)]
        else:
            found.append(f"{key}={value}")
    return found
