"""The one way in for topologies: options of middlebox functions are checked, and in base units.

Every door leads through here: `testbed.load`, `loads`, `Lab`, the command line, pytest, scenarios.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from testbed.errors import InvalidValue, TopologyError
from testbed.middlebox.registry import function_options
from testbed.topology.model import FunctionSpec, Topology
from testbed.topology.problems import Problem, refuse
from testbed.topology.values import scalars
from testbed.topology.values.shapes import Single
from testbed.topology.vary import with_link
from testbed.topology.yaml import load as yaml_load
from testbed.topology.yaml.impairments import parse_changes
from testbed.topology.yaml.options import read_options
from testbed.wording import join, suggestion

_FOLDER = Path("topologies")
_OVERRIDES: Final[Mapping[str, Single]] = {
    "emulator": scalars.EMULATOR,
    "family": scalars.FAMILY,
    "prefer": scalars.PREFERRED,
    "seed": scalars.SEED,
}


def load(source: str | os.PathLike[str]) -> Topology:
    """The topology in a YAML file, given by its path or name (see `topology_path`).

    Raises TopologyError with one line for every fault: file, line, key, expected and got.
    """
    return yaml_load.load(topology_path(source), functions=function_options())


def loads(text: str, source: str = "<string>") -> Topology:
    """The topology in a YAML text; `source` names it in messages.

    Files that the text names are looked for in the folder of `source`. Raises TopologyError with
    one line for every fault: source, line, key, expected and got.
    """
    return yaml_load.loads(text, source, functions=function_options())


def checked(topology: Topology) -> Topology:
    """A topology that was made in Python, with the options of its functions in base units.

    Quantities may be text with a unit, as in YAML, or numbers in seconds, bytes, bit/s and
    probabilities. Raises TopologyError with one line for every fault.
    """
    if not any(node.functions for node in topology.nodes.values()):
        return topology
    known = function_options()
    problems: list[Problem] = []
    nodes = dict(topology.nodes)
    for name, node in topology.nodes.items():
        functions = []
        for index, function in enumerate(node.functions):
            path = ("nodes", name, "functions", index)
            options, faults = read_options(
                function.name, function.options, known, path, from_python=True
            )
            problems += faults
            functions.append(FunctionSpec(function.name, options))
        nodes[name] = msgspec.structs.replace(node, functions=tuple(functions))
    if problems:
        raise refuse(map(str, problems))
    return msgspec.structs.replace(topology, nodes=nodes)


def with_overrides(topology: Topology, overrides: Mapping[str, Any]) -> Topology:
    """The topology with some of it changed, each value as YAML writes it.

    `emulator`, `family`, `prefer` and `seed` are the keys of YAML. `links` has impairments by pairs
    of nodes, `{("client", "server"): {"loss": "1%", "toward": "server"}}`, in both directions
    unless `toward` names one; what is not named stays. Raises TopologyError.
    """
    problems: list[Problem] = []
    fields: dict[str, Any] = {}
    for key, value in overrides.items():
        if key in _OVERRIDES:
            try:
                fields[key] = _OVERRIDES[key].parse(value)
            except InvalidValue as error:
                problems.append(Problem((key,), str(error)))
        elif key != "links":
            known = (*_OVERRIDES, "links")
            told = f"a test overrides {join(known, 'and')}{suggestion(key, known)}"
            problems.append(Problem((key,), told))
    if problems:
        raise refuse(map(str, problems))
    topology = msgspec.structs.replace(topology, **fields)
    for ends, changes in overrides.get("links", {}).items():
        topology = _with_impairments(topology, ends, changes)
    return topology


def _with_impairments(topology: Topology, ends: Any, changes: Mapping[str, Any]) -> Topology:
    if not (isinstance(ends, tuple) and len(ends) == 2):
        raise TopologyError([f'links: expected a pair such as ("client", "server"), got {ends!r}'])
    a, b = ends
    toward = changes.get("toward")
    if toward not in (None, a, b):
        raise TopologyError([f"links: {a}-{b} does not lead to {toward!r}, only to {a} and {b}"])
    direction = "both" if toward is None else "forward" if toward == b else "reverse"
    try:
        values = parse_changes({key: one for key, one in changes.items() if key != "toward"})
    except InvalidValue as error:
        raise TopologyError([f"links: {a}-{b}: {error}"]) from None
    return with_link(topology, a, b, direction=direction, **values)


def find_topology(
    source: str | os.PathLike[str], folders: Sequence[Path] = (Path(),)
) -> Path | None:
    """The file that is meant by the path or the name of a topology.

    A name has no folder and no suffix: `docomo` is `topologies/docomo.yaml` of the first folder,
    or else the topology of that name that comes with testbed.

    folders: where relative paths start from, the first that has the file.
    None for a name of no topology; a path is the caller's to open, whether it exists or not.
    """
    path = Path(source)
    paths = [folder / path for folder in folders]
    found = next((one for one in paths if one.is_file()), None)
    if found is None and _is_name(path):
        return _data_file(f"{path}.yaml", folders[0])
    return found or paths[0]


def topology_path(source: str | os.PathLike[str], folders: Sequence[Path] = (Path(),)) -> Path:
    """What `find_topology` finds. Raises TopologyError for a name of no topology."""
    path = find_topology(source, folders)
    if path is None:
        places = _data_folders(folders[0])
        known = sorted({file.stem for place in places for file in place.glob("*.yaml")})
        raise TopologyError(
            [
                f"There is no topology '{source}' in {' or '.join(map(str, places))}"
                f"{suggestion(str(source), known)}"
            ]
        )
    return path


def ruleset_path(name: str) -> Path:
    """The file of a ruleset for nftables, of this folder or of testbed. Raises TopologyError."""
    path = _data_file(f"rulesets/{name}.nft", Path())
    if path is None:
        places = " or ".join(map(str, _data_folders(Path())))
        raise TopologyError([f"There is no ruleset 'rulesets/{name}.nft' in {places}"])
    return path


def _is_name(path: Path) -> bool:
    return path.name == str(path) and not path.suffix


def _data_folders(folder: Path) -> tuple[Path, Path]:
    return folder / _FOLDER, Path(str(resources.files("testbed"))) / _FOLDER


def _data_file(file: str, folder: Path) -> Path | None:
    paths = (place / file for place in _data_folders(folder))
    return next((path for path in paths if path.is_file()), None)
