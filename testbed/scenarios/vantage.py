"""From a run's captures to the ladder of the path they were taken on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from testbed.report.ladder import Hop, Ladder, build_ladder
from testbed.topology.model import Topology
from testbed.trace import Trace, read_trace


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
