"""One connection in two captures, segment by segment: lost, delayed, rewritten."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import msgspec

from testbed.trace.connections import Connection
from testbed.trace.journeys import (
    Journey,
    Passage,
    Vantage,
    find_elsewhere,
    follow,
    initiator_is_left,
)
from testbed.trace.reader import Trace
from testbed.trace.segments import Segment


class Rewritten(msgspec.Struct, frozen=True, eq=False):
    """One segment that was changed between two captures; changes: what differs, in words."""

    upstream: Segment
    downstream: Segment
    changes: tuple[str, ...]


class Passed(msgspec.Struct, frozen=True, eq=False):
    """One segment in both captures; transit: ns from one to the other, clocks corrected."""

    upstream: Segment
    downstream: Segment
    transit: int


@dataclass(frozen=True, eq=False)
class ConnectionComparison:
    """What two captures show of one connection; `outward`: what the initiator sent."""

    journeys: tuple[Journey, ...]
    initiator_is_left: bool

    def crossings(self, outward: bool) -> tuple[Passed, ...]:
        """The segments of one side that are in both captures, in the order they were sent."""
        return tuple(
            Passed(first.segment, last.segment, last.time - first.time)
            for first, *_, last in (one.stops for one in self._of(outward) if len(one.stops) > 1)
        )

    def lost(self, outward: bool) -> tuple[Segment, ...]:
        """The segments of one side that left the first capture of their way and never arrived."""
        return tuple(one.segment for one in self._of(outward) if one.passage is Passage.VANISHED)

    def rewritten(self, outward: bool) -> tuple[Rewritten, ...]:
        """The segments of one side that arrived otherwise than they were sent."""
        found = (
            Rewritten(one.upstream, one.downstream, _changes(one.upstream, one.downstream))
            for one in self.crossings(outward)
        )
        return tuple(one for one in found if one.changes)

    def _of(self, outward: bool) -> tuple[Journey, ...]:
        return self._by_way[self.initiator_is_left == outward]

    @cached_property
    def _by_way(self) -> dict[bool, tuple[Journey, ...]]:
        return {
            rightward: tuple(one for one in self.journeys if one.rightward == rightward)
            for rightward in (True, False)
        }


def compare(trace: Trace, connection: Connection, other: Trace) -> ConnectionComparison | None:
    """A connection of `trace` beside the same one in another capture; None: that lacks it.

    Which capture is nearer to the initiator is told by the segments.
    """
    vantages = [Vantage(0, False, trace), Vantage(0, True, other)]
    sights = find_elsewhere(vantages, 0, connection)
    if sights[1] is None:
        return None
    is_left = initiator_is_left(sights)
    followed = follow(vantages, 0, connection, from_left=is_left)
    return ConnectionComparison(followed.journeys, is_left)


def _changes(one: Segment, other: Segment) -> tuple[str, ...]:
    pairs = (
        ("source", one.source, other.source),
        ("destination", one.destination, other.destination),
        ("sequence number", one.seq, other.seq),
        ("acknowledgment", one.ack, other.ack),
        ("window", one.window, other.window),
        ("options", one.raw_options, other.raw_options),
        ("ECN", one.ecn, other.ecn),
    )
    return tuple(what for what, before, after in pairs if before != after)
