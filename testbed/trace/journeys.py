"""A segment followed along a path: where it was seen, where it came from, where it vanished."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from statistics import median

import msgspec

from testbed.trace.clocks import Clock, comes_first, compare_clocks, with_clock
from testbed.trace.connections import Connection
from testbed.trace.match import match_connections, match_segments
from testbed.trace.ranges import Ranges
from testbed.trace.reader import Trace
from testbed.trace.segments import Segment
from testbed.wire.flags import ACK, RST, SYN


class Vantage(msgspec.Struct, frozen=True, eq=False):
    """A capture at one end of a hop; `hop` counts from the left."""

    hop: int
    right_end: bool
    trace: Trace


class Passage(Enum):
    """What became of a segment after it was seen last."""

    ARRIVED = "arrived"
    """Seen at the last capture in its way."""
    CONSUMED = "consumed"
    """Not seen further on, which is in order: an ACK, or what a proxy answered itself."""
    VANISHED = "vanished"
    """It should have been seen further on."""


class Stop(msgspec.Struct, frozen=True, eq=False):
    """One segment seen at one vantage; time in ns since the epoch."""

    vantage: Vantage
    segment: Segment

    @property
    def time(self) -> int:
        return self.segment.time


class Journey(msgspec.Struct, frozen=True, eq=False):
    """All sightings of one segment, in the direction of its travel.

    seq, ack: relative to the SYNs. window: what it offers, in bytes, None where that is not known.
    what: "keepalive", "window probe" or "copy", if it is one.
    from_between: the two hops between which it came into being, the upstream one first; None
    when it was seen at the first capture of its way.
    lost_between: the two hops between which it vanished; the same hop twice for a link.
    """

    stops: tuple[Stop, ...]
    rightward: bool
    seq: int
    ack: int | None
    window: int | None
    what: str
    retransmission: bool
    from_between: tuple[int, int] | None
    passage: Passage
    lost_between: tuple[int, int] | None

    @property
    def segment(self) -> Segment:
        """As first seen."""
        return self.stops[0].segment


class Followed(msgspec.Struct, frozen=True, eq=False):
    """The segments of a connection along a path.

    journeys: in the order of time.
    clocks: how the clock of each vantage stands to those before it; None where they may agree.
    Times are corrected by them.
    """

    journeys: tuple[Journey, ...]
    clocks: tuple[Clock | None, ...]


def follow(
    vantages: Sequence[Vantage], position: int, connection: Connection, *, from_left: bool | None
) -> Followed:
    """Follow every segment of a connection, which was found at `vantages[position]`.

    from_left: whether the initiator is on the left; None: as the captures say.
    """
    sights = find_elsewhere(vantages, position, connection)
    if from_left is None:
        from_left = initiator_is_left(sights)
    clocks = _align(sights, from_left)
    path = _Path(vantages, sights, clocks, from_left)
    place = {id(vantage): index for index, vantage in enumerate(vantages)}
    journeys = sorted(
        (*path.journeys(rightward=True), *path.journeys(rightward=False)),
        key=lambda one: (one.stops[0].time, place[id(one.stops[0].vantage)], one.segment.number),
    )
    return Followed(tuple(journeys), tuple(clocks))


def _align(sights: list[Connection | None], from_left: bool) -> list[Clock | None]:
    """Correct the times of each sight by those before it, in place."""
    clocks: list[Clock | None] = [None] * len(sights)
    before: Connection | None = None
    for index, sight in enumerate(sights):
        if sight is None:
            continue
        if before is not None:
            clocks[index] = clock = compare_clocks(before, sight, outward=from_left)
            if clock is not None:
                sights[index] = sight = with_clock(sight, clock)
        before = sight
    return clocks


def find_elsewhere(
    vantages: Sequence[Vantage], position: int, connection: Connection
) -> list[Connection | None]:
    """The connection as each vantage shows it; None where it does not appear."""
    found: list[Connection | None] = [None] * len(vantages)
    found[position] = known = connection
    source = vantages[position].trace
    for index in range(position + 1, len(vantages)):
        for pair in match_connections(source, vantages[index].trace):
            if pair.near is known:
                found[index] = known = pair.far
                source = vantages[index].trace
                break
    return found


def initiator_is_left(sights: Sequence[Connection | None]) -> bool:
    """Whether the initiator's segments pass from left to right; True where nothing tells."""
    seen = [sight for sight in sights if sight is not None]
    if len(seen) > 1 and (told := comes_first(seen[0], seen[-1])) is not None:
        return told
    syns = [sight.handshake.syn or sight.segments[0] for sight in seen if not sight.guessed]
    return len(syns) < 2 or syns[0].time <= syns[-1].time


class _Path:
    """The vantages, what each saw of the connection, and which sightings are one segment."""

    def __init__(
        self,
        vantages: Sequence[Vantage],
        sights: Sequence[Connection | None],
        clocks: Sequence[Clock | None],
        from_left: bool,
    ) -> None:
        self.vantages = vantages
        self.sights = sights
        self.ends = [
            (clock or Clock()).corrected(vantage.trace.end or 0)
            for vantage, clock in zip(vantages, clocks, strict=True)
        ]
        self.from_left = from_left
        self.onward: dict[Segment, Segment] = {}
        self.came_from: dict[Segment, Segment] = {}
        self.transits: dict[tuple[int, bool], int] = {}
        self._answers: dict[tuple[int, bool], dict[tuple[int, int], int]] = {}
        self._bytes: dict[tuple[int, bool], Ranges] = {}
        for index in range(len(vantages) - 1):
            self._match(index)
        self.retransmissions = {
            segment for sight in sights if sight for segment in sight.retransmissions()
        }
        self.what = dict(_probes_and_copies(sights))
        self.last_time = max(self.ends, default=0)

    def _match(self, index: int) -> None:
        """Find the crossings between vantage `index` and the next one."""
        left, right = self.sights[index], self.sights[index + 1]
        if left is None or right is None:
            return
        near, far = (left, right) if self.from_left else (right, left)
        transits: dict[bool, list[int]] = {True: [], False: []}
        for crossing in match_segments(near, far):
            self.onward[crossing.upstream] = crossing.downstream
            self.came_from[crossing.downstream] = crossing.upstream
            rightward = near.is_outward(crossing.upstream) == self.from_left
            transits[rightward].append(crossing.transit)
        for rightward, values in transits.items():
            if values:
                self.transits[index, rightward] = int(median(values))

    def journeys(self, *, rightward: bool) -> Iterator[Journey]:
        order = list(range(len(self.vantages)))
        if not rightward:
            order.reverse()
        for place, index in enumerate(order):
            sight = self.sights[index]
            if sight is None:
                continue
            for segment in self._sent(sight, rightward=rightward):
                if segment not in self.came_from:
                    yield self._journey(segment, sight, order, place, rightward=rightward)

    def _sent(self, sight: Connection, *, rightward: bool) -> tuple[Segment, ...]:
        direction = sight.by_initiator if rightward == self.from_left else sight.by_responder
        return direction.segments

    def _journey(
        self,
        first: Segment,
        sight: Connection,
        order: Sequence[int],
        place: int,
        *,
        rightward: bool,
    ) -> Journey:
        stops = [Stop(self.vantages[order[place]], first)]
        last_place = place
        while stops[-1].segment in self.onward:
            last_place += 1
            onward = self.onward[stops[-1].segment]
            stops.append(Stop(self.vantages[order[last_place]], onward))
        passage, lost_between = Passage.ARRIVED, None
        if last_place + 1 < len(order):
            here, there = order[last_place], order[last_place + 1]
            passage = self._passage(stops[-1].segment, here, there, rightward=rightward)
            if passage is Passage.VANISHED:
                lost_between = self.vantages[here].hop, self.vantages[there].hop
        return Journey(
            stops=tuple(stops),
            rightward=rightward,
            seq=sight.relative_seq(first),
            ack=sight.relative_ack(first),
            window=sight.window_of(first),
            what=self.what.get(first, ""),
            retransmission=any(stop.segment in self.retransmissions for stop in stops),
            from_between=self._origin(first, order, place),
            passage=passage,
            lost_between=lost_between,
        )

    def _origin(self, first: Segment, order: Sequence[int], place: int) -> tuple[int, int] | None:
        """Between which hops a segment came into being that was first seen at `place`."""
        if place == 0:
            return None
        before = self.sights[order[place - 1]]
        if before is not None and before.guessed and first.time < before.start:
            return None  # it passed the capture before that one began
        upstream, here = self.vantages[order[place - 1]], self.vantages[order[place]]
        return None if upstream.hop == here.hop else (upstream.hop, here.hop)

    def _passage(self, segment: Segment, here: int, there: int, *, rightward: bool) -> Passage:
        """Whether a segment seen at `here` and not at the next vantage `there` should have been."""
        if segment.span == 0 or segment.flags & RST:
            return Passage.CONSUMED
        if not self._would_be_captured(segment, here, there, rightward=rightward):
            return Passage.CONSUMED
        if self.vantages[here].hop != self.vantages[there].hop:
            if segment.flags & SYN and self._is_answered(segment, here, rightward=rightward):
                return Passage.CONSUMED
            if self._is_resegmented(segment, here, there, rightward=rightward):
                return Passage.CONSUMED
        return Passage.VANISHED

    def _would_be_captured(
        self, segment: Segment, here: int, there: int, *, rightward: bool
    ) -> bool:
        """Whether the next capture was running when the segment should have come by."""
        due = segment.time + self.transits.get((min(here, there), rightward), 0)
        if due > self.last_time:
            return False
        trace, sight = self.vantages[there].trace, self.sights[there]
        if (trace.truncated or trace.damage) and due > self.ends[there]:
            return False
        return sight is None or not sight.guessed or due >= sight.start

    def _is_answered(self, syn: Segment, here: int, *, rightward: bool) -> bool:
        """Whether a box beyond `here` answered a SYN or SYN/ACK itself."""
        answers = self._local_answers(here, rightward=not rightward)
        kind = ACK if syn.flags & ACK else SYN | ACK
        return any(
            answers.get((kind, syn.seq + 1 + data & 0xFFFF_FFFF), -1) >= syn.time
            for data in (0, syn.length)
        )

    def _local_answers(self, index: int, *, rightward: bool) -> dict[tuple[int, int], int]:
        """{(SYN and ACK flags, acknowledgment): last time} of what a box sent on its own."""
        if (index, rightward) not in self._answers:
            sight = self.sights[index]
            self._answers[index, rightward] = {
                (segment.flags & (SYN | ACK), segment.ack): segment.time
                for segment in (self._sent(sight, rightward=rightward) if sight else ())
                if segment not in self.came_from
            }
        return self._answers[index, rightward]

    def _is_resegmented(self, segment: Segment, here: int, there: int, *, rightward: bool) -> bool:
        """Whether the same bytes go on in segments of other sizes (a proxy, or offload)."""
        sight = self.sights[here]
        assert sight is not None
        start = _payload_start(sight, segment)
        return segment.length > 0 and self._own_bytes(there, rightward=rightward).covers(
            start, start + segment.length
        )

    def _own_bytes(self, index: int, *, rightward: bool) -> Ranges:
        """The bytes in segments that have no counterpart upstream."""
        if (index, rightward) not in self._bytes:
            ranges = self._bytes[index, rightward] = Ranges()
            sight = self.sights[index]
            for segment in self._sent(sight, rightward=rightward) if sight else ():
                if sight and segment not in self.came_from:
                    start = _payload_start(sight, segment)
                    ranges.add(start, start + segment.length)
        return self._bytes[index, rightward]


def _probes_and_copies(sights: Iterable[Connection | None]) -> Iterator[tuple[Segment, str]]:
    for sight in sights:
        for direction in sight.directions if sight else ():
            yield from ((segment, "keepalive") for segment in direction.keepalives)
            yield from ((segment, "window probe") for segment in direction.window_probes)
            yield from ((segment, "copy") for segment in direction.copies)


def _payload_start(sight: Connection, segment: Segment) -> int:
    return sight.relative_seq(segment) + (segment.flags >> 1 & 1)
