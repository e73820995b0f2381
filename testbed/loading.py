"""The one way in for topologies: options of middlebox functions are checked, and in base units.

Every door leads through here: `testbed.load`, `loads`, `Lab`, the command line, pytest, scenarios.
"""

from __future__ import annotations

import os

import msgspec

from testbed.middlebox.registry import function_options
from testbed.topology.model import FunctionSpec, Topology
from testbed.topology.problems import Problem, refuse
from testbed.topology.yaml import load as yaml_load
from testbed.topology.yaml.options import read_options


def load(path: str | os.PathLike[str]) -> Topology:
    """The topology in a YAML file.

    Raises TopologyError with one line for every fault: file, line, key, expected and got.
    """
    return yaml_load.load(path, functions=function_options())


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
