"""What a scenario shows below its table: a sentence, the ladder of a path, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from rich.text import Text

from testbed.report import Hop, Ladder, build_ladder
from testbed.scenarios.result import Result
from testbed.topology.model import Topology
from testbed.trace import Trace, read_trace


class Presentation(msgspec.Struct, frozen=True):
    """What a scenario shows beside its table.

    blocks: from the terminal's width in characters to rich renderables.
    files: the files that the scenario wrote, by what they are.
    """

    blocks: Callable[[int], list[Any]]
    files: dict[str, Path] = {}


def conclude(sentence: str, folder: Path) -> Presentation:
    """A presentation of one sentence and of where the files are."""
    return Presentation(
        lambda _: [Text(sentence)],
        {"captures": folder / "captures", "result": folder / "result.json"},
    )


def median_of(result: Result, name: str, **parameters: Any) -> float | None:
    """The median of a measurement in the one cell with these parameters, if it was run."""
    for cell in result.cells:
        if parameters.items() <= cell.parameters.items():
            return float(cell.medians[name])
    return None


def medians_of(result: Result, name: str, *cells: Mapping[str, Any]) -> list[float]:
    """The medians of a measurement in several cells; empty if one of them was not run."""
    found = [median_of(result, name, **cell) for cell in cells]
    return [] if None in found else [value for value in found if value is not None]


def path_ladder(
    topology: Topology, columns: Sequence[str], captures: Mapping[str, Path], *, title: str
) -> Ladder:
    """The ladder of nodes `columns` along a path, from captures by `node:interface`.

    The first column is the initiator. Raises TraceError where nothing was captured.
    """
    traces = {name: read_trace(path) for name, path in captures.items()}
    hops = [_hop(topology, left, right, traces) for left, right in pairwise(columns)]
    return build_ladder(columns, hops, title=title, initiator=columns[0])


def _hop(topology: Topology, left: str, right: str, traces: Mapping[str, Trace]) -> Hop:
    for link in topology.links:
        ends = {end.node: str(end) for end in link.endpoints}
        if ends.keys() == {left, right}:
            return Hop(left, right, traces.get(ends[left]), traces.get(ends[right]))
    return Hop(left, right)
