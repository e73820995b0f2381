"""How far apart the clocks of two captures are, by the segments that both hold.

A segment cannot arrive before it was sent. Where it seems to, the clocks differ; and segments of
both directions bound the difference: the quickest one there is late by the difference and its
delay, the quickest one back by its delay less the difference (RFC 5905 section 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import linear_regression, median
from typing import NamedTuple

import msgspec
import numpy as np

from testbed.trace.connections import Connection
from testbed.trace.segments import Segment

SLACK = 1_000
"""ns by which a segment may seem early: captures cut time stamps to microseconds."""

_WINDOWS = 12
_LARGEST_DRIFT = 1e-3
_LEAST_SPAN = 10_000_000_000  # ns that drift needs to be told from queues


class Clock(msgspec.Struct, frozen=True):
    """The clock of one capture, compared with that of another.

    ahead: ns by which it is ahead, at the moment `at` of its own (ns since the epoch).
    give_or_take: ns; the true difference lies within. As much as the quickest round trip allows.
    drift: ns that it gains in each ns; 0.0 where that cannot be told.
    """

    ahead: int = 0
    at: int = 0
    give_or_take: int = 0
    drift: float = 0.0

    def corrected(self, time: int) -> int:
        """A time of this clock as the other one would have shown it."""
        return time - self.ahead - round(self.drift * (time - self.at))


class _Sight(NamedTuple):
    """A segment seen by both: when by the first clock, and how much later by the second (ns)."""

    time: int
    late: int


def compare_clocks(first: Connection, second: Connection, *, outward: bool) -> Clock | None:
    """The clock of `second` compared with that of `first`: one connection in two captures.

    outward: what the initiator sends passes `first` before `second`.
    None where the clocks may agree, or nothing tells how far they are apart.
    """
    there, back = _sights(first, second, outward)
    if not there or not back:
        return None
    if min(one.late for one in there) >= -SLACK and max(one.late for one in back) <= SLACK:
        return None
    steady = _between(there, back, there[0].time)
    drift = _drift(there, back)
    if drift == 0.0:
        return steady
    at = there[0].time
    level = [
        [_Sight(one.time, one.late - round(drift * (one.time - at))) for one in sights]
        for sights in (there, back)
    ]
    found = _between(level[0], level[1], at)
    return msgspec.structs.replace(found, drift=drift / (1 + drift))


def comes_first(first: Connection, second: Connection) -> bool | None:
    """Whether what the initiator sends passes `first` before `second`, whatever their clocks say.

    None where no segment of both directions is in both.
    """
    out, back = _sights(first, second, True)
    if not out or not back:
        return None
    return median(one.late for one in out) >= median(one.late for one in back)


def _between(there: Sequence[_Sight], back: Sequence[_Sight], at: int) -> Clock:
    most, least = min(one.late for one in there), max(one.late for one in back)
    ahead = (most + least) // 2
    return Clock(ahead=ahead, at=at + ahead, give_or_take=abs(most - least) // 2)


def _drift(there: Sequence[_Sight], back: Sequence[_Sight]) -> float:
    """What the second clock gains in each ns, by the differences in several windows of time."""
    begin = min(there[0].time, back[0].time)
    span = max(there[-1].time, back[-1].time) - begin
    if span < _LEAST_SPAN:
        return 0.0
    times, offsets = [], []
    for number in range(_WINDOWS):
        low = begin + span * number // _WINDOWS
        high = begin + span * (number + 1) // _WINDOWS
        windows = [[one for one in sights if low <= one.time <= high] for sights in (there, back)]
        if all(windows):
            quickest = min(windows[0], key=lambda one: one.late)
            slowest = max(windows[1], key=lambda one: one.late)
            times.append((quickest.time + slowest.time) / 2)
            offsets.append((quickest.late + slowest.late) / 2)
    if len(times) < 4:
        return 0.0
    slope, intercept = linear_regression(times, offsets)
    off = median(abs(o - slope * t - intercept) for t, o in zip(times, offsets, strict=True))
    clear = abs(slope) * span > 4 * off + SLACK and abs(slope) < _LARGEST_DRIFT
    return slope if clear else 0.0


def _sights(
    first: Connection, second: Connection, outward: bool
) -> tuple[list[_Sight], list[_Sight]]:
    """Segments that both captures hold once and alike, by the direction that they travel in."""
    found: tuple[list[_Sight], list[_Sight]] = [], []
    whole = all(s.captured == s.length for one in (first, second) for s in one.segments)
    seconds = _once(second, whole)
    for key, segment in _once(first, whole).items():
        other = seconds.get(key)
        if other is not None:
            back = first.is_outward(segment) != outward
            found[back].append(_Sight(segment.time, other.time - segment.time))
    return found


def _once(connection: Connection, whole: bool) -> dict[object, Segment]:
    """The segments that occur once, by all that nobody on a plain path changes."""
    found: dict[object, Segment | None] = {}
    for segment in connection.segments:
        key = (
            connection.is_outward(segment),
            segment.ip_identification,
            segment.seq,
            segment.ack,
            segment.flags,
            segment.window,
            segment.length,
            segment.raw_options,
            hash(segment.payload) if whole else None,
        )
        found[key] = None if key in found else segment
    return {key: segment for key, segment in found.items() if segment is not None}


def with_clock(connection: Connection, clock: Clock) -> Connection:
    """The connection with the time of each segment corrected."""
    table = connection.table
    times = np.array([clock.corrected(time) for time in table.time.tolist()], np.int64)
    return replace(connection, whole=replace(table, time=times), rows=slice(None))
