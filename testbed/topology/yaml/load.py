"""Loads a topology from YAML, or says everything that is wrong with it, line by line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path as FilePath

from testbed.topology.checks.topology import find_problems
from testbed.topology.model import Topology
from testbed.topology.problems import Path, Problem, refuse
from testbed.topology.yaml import grammar
from testbed.topology.yaml.document import MappingNode, SequenceNode, TreeNode, parse, read_text
from testbed.topology.yaml.expand import Expansion
from testbed.topology.yaml.impairments import TraceFolder
from testbed.topology.yaml.options import FunctionOptions
from testbed.topology.yaml.reading import INVALID, read


def load(path: str | os.PathLike[str], functions: FunctionOptions | None = None) -> Topology:
    """The topology in a YAML file.

    functions: middlebox functions by name with the types of their options; when given, the
    topology's functions are checked against them, else they are kept as they are written.
    Raises TopologyError with one line for every fault: file, line, key, expected and got.
    """
    return loads(read_text(FilePath(path)), source=str(path), functions=functions)


def loads(
    text: str, source: str = "<string>", functions: FunctionOptions | None = None
) -> Topology:
    """The topology in a YAML text; `source` names it in messages. See `load`.

    Files that the text names are looked for in the folder of `source`.
    """
    tree = parse(text, source)
    problems: list[Problem] = []
    values = read(grammar.TOPOLOGY, tree, problems)
    if values is INVALID:
        raise refuse(_lines(problems, tree, source))
    traces = TraceFolder(FilePath(source).parent)
    expansion = Expansion(values, functions, traces, problems)
    topology = expansion.topology()
    if topology is not None:
        told = {problem.path for problem in problems}
        problems += _semantic_problems(topology, expansion, told)
    if topology is None or problems:
        raise refuse(_lines(problems, tree, source))
    return topology


def _lines(problems: list[Problem], tree: TreeNode, source: str) -> list[str]:
    """`file:line: key: what is wrong`, in the order of the file, each once."""
    located = []
    for problem in problems:
        path, line = _existing(problem.path, tree)
        located.append((line, Problem(path, problem.text)))
    located.sort(key=lambda entry: entry[0])
    return list(dict.fromkeys(f"{source}:{line}: {problem}" for line, problem in located))


def _existing(path: Path, tree: TreeNode) -> tuple[Path, int]:
    """The part of a path that the tree has, and the line where it stands.

    A problem of one direction may come from the link's common value: then that is its place.
    """
    node, line = tree, tree.line
    found: list[str | int] = []
    for step in path:
        if isinstance(node, MappingNode) and step in node.entries:
            line, node = node.entries[str(step)]
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
            line = node.line
        elif step in ("forward", "reverse"):
            continue
        else:
            break
        found.append(step)
    return tuple(found), line


def _semantic_problems(
    topology: Topology, expansion: Expansion, told: set[Path]
) -> Iterator[Problem]:
    """What the checks say, in terms of the YAML's keys, without what follows from a fault that
    has been told already; a fault of a group is told once."""
    of_groups: set[Path] = set()
    for problem in find_problems(topology, expansion.complete):
        path, is_group = expansion.path_in_yaml(problem.path)
        if path in told or (*path[:2], "kind") in told or path in of_groups:
            continue
        if is_group:
            of_groups.add(path)
        yield Problem(path, problem.text)
