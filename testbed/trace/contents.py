"""What a trace holds: a table of segments, and views of it as connections and as objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from testbed.trace.connections import Connection
from testbed.trace.grouping import Group
from testbed.trace.segments import Segment
from testbed.trace.source import Buffer
from testbed.trace.summary import TraceSummary, summarise
from testbed.trace.table import SegmentTable, segments_in
from testbed.trace.table.flows import Flows


@dataclass(frozen=True, eq=False)
class Initiated:
    """Of one connection the flow of its initiator, the one back, and whether that is a guess."""

    outward: int
    back: int
    guessed: bool


@dataclass(frozen=True, eq=False)
class Contents:
    """Segments and connections; objects of them are made when they are asked for.

    initiated: of each connection in order. ordered: time never goes back.
    """

    table: SegmentTable
    initiated: Sequence[Initiated]
    flows: Flows
    data: Buffer
    ordered: bool

    @cached_property
    def connections(self) -> tuple[Connection, ...]:
        """All connections, in the order of their first segments."""
        rows, starts = self.table.by_connection
        table = self.table
        if not np.array_equal(rows, np.arange(len(rows))):
            table = table.take(rows)
        bounds = starts.tolist()
        found = []
        for number, one in enumerate(self.initiated, 1):
            outward = self.flows.flow(one.outward)
            back = outward if one.back == one.outward else self.flows.flow(one.back)
            part = slice(bounds[number], bounds[number + 1])
            found.append(
                Connection(number, outward, back, table, part, self.data, one.guessed, self.ordered)
            )
        return tuple(found)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """All segments, the same objects as those of the connections, in the capture's order."""
        segments = [one for connection in self.connections for one in connection.segments]
        return tuple(sorted(segments, key=lambda one: one.number))

    @cached_property
    def summary(self) -> TraceSummary:
        """The figures of all connections; only few segments are made objects for them."""
        return summarise(self.table, [one.outward for one in self.connections], self._segments_at)

    def _segments_at(self, rows: NDArray[np.intp]) -> Sequence[Segment]:
        """New objects of some rows."""
        part = self.table.take(rows)
        sides = zip(part.connection.tolist(), part.outward.tolist(), strict=True)
        connections = self.connections
        flows = (
            connections[number - 1].outward if outward else connections[number - 1].back
            for number, outward in sides
        )
        return tuple(segments_in(part, self.data, flows))

    def without(self, numbers: NDArray[np.uint32]) -> Contents:
        """The same without some segments, by the numbers of their frames."""
        return replace(self, table=self.table.take(~np.isin(self.table.number, numbers)))


def initiated(group: Group, flows: Flows) -> Initiated:
    """Who opened a connection: by its SYN, else by its SYN/ACK, else who has the higher port."""
    outward = group.initiator
    if outward is not None:
        return Initiated(outward, group.other(outward), False)
    if group.syn_acks:
        outward = group.opposite if group.side in group.syn_acks else group.side
    else:
        source, destination = flows.ports(group.side)
        outward = group.side if source >= destination else group.opposite
    return Initiated(outward, group.other(outward), True)


def connection_columns(
    groups: Sequence[Group], opened: Sequence[Initiated], flow: NDArray[np.uint32]
) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """The columns `connection` and `outward`."""
    connection = np.zeros(len(flow), np.uint32)
    for number, group in enumerate(groups, 1):
        connection[group.rows] = number
    outward = np.array([0, *(one.outward for one in opened)], np.uint32)
    return connection, outward[connection] == flow
