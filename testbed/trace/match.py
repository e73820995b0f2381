"""One segment seen in several captures, of which the clocks agree (`testbed.trace.clocks`).

Sequence numbers are compared relative to the SYN of their direction, so that a box that answers
with an initial sequence number of its own (a TCP setup proxy) does not hide that segments are the
same. Times decide what the headers leave open: none is earlier downstream than upstream.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

import msgspec

from testbed.trace.clocks import SLACK
from testbed.trace.connections import Connection
from testbed.trace.reader import Trace
from testbed.trace.segments import Segment
from testbed.wire.flags import ACK, FIN, RST, SYN

_Key = tuple[int, int | None, int, int, int]


class Crossing(msgspec.Struct, frozen=True, eq=False):
    """One segment where it was seen first, and where it was seen next."""

    upstream: Segment
    downstream: Segment

    @property
    def transit(self) -> int:
        """ns from one capture to the other."""
        return self.downstream.time - self.upstream.time


class ConnectionPair(msgspec.Struct, frozen=True, eq=False):
    """One connection in two captures, `near` taken nearer to the initiator."""

    near: Connection
    far: Connection


def match_connections(near: Trace, far: Trace) -> tuple[ConnectionPair, ...]:
    """The connections that are in both captures, in the order of `near`.

    By their two endpoints, those with the same ISN first; else by the initiator's endpoint (a
    box may connect to another server), else by the initiator's ISN (a NAT changes the endpoint),
    both only where the times overlap. Each connection is matched once.
    """
    left = list(far.connections)
    pairs: dict[Connection, Connection] = {}
    for identity, overlapping in _IDENTITIES:
        index: dict[object, list[Connection]] = defaultdict(list)
        for connection in left:
            index[identity(connection)].append(connection)
        for connection in near.connections:
            candidates = index.get(identity(connection))
            if candidates and connection not in pairs:
                found = _nearest(connection, candidates, overlapping=overlapping)
                if found is not None:
                    pairs[connection] = found
                    candidates.remove(found)
        taken = set(pairs.values())
        left = [connection for connection in left if connection not in taken]
    return tuple(
        ConnectionPair(connection, pairs[connection])
        for connection in near.connections
        if connection in pairs
    )


def _endpoints(connection: Connection) -> object:
    return connection.initiator, connection.responder


def _endpoints_and_isn(connection: Connection) -> object:
    return connection.initiator, connection.responder, connection.initiator_isn


def _initiator(connection: Connection) -> object:
    return connection.initiator


def _isn(connection: Connection) -> object:
    # Without a SYN there is nothing to go by: such a connection equals only itself.
    isn = connection.initiator_isn
    return connection if isn is None else isn


_IDENTITIES = ((_endpoints_and_isn, False), (_endpoints, False), (_initiator, True), (_isn, True))


def _nearest(
    connection: Connection, candidates: Sequence[Connection], *, overlapping: bool
) -> Connection | None:
    """The candidate that starts nearest in time, if asked only among those that overlap."""
    return min(
        (
            candidate
            for candidate in candidates
            if not overlapping
            or (candidate.start <= connection.end and connection.start <= candidate.end)
        ),
        key=lambda candidate: abs(candidate.start - connection.start),
        default=None,
    )


def match_segments(near: Connection, far: Connection) -> tuple[Crossing, ...]:
    """The segments of a connection that are in both captures, in the order they were sent.

    near: as captured nearer to the initiator; what the initiator sends passes there first.
    """
    compare = _Comparison(near, far)
    crossings: list[Crossing] = []
    for outward in (True, False):
        first, second = (near, far) if outward else (far, near)
        crossings += _match_direction(
            compare.by_key(first, outward=outward), compare.by_key(second, outward=outward)
        )
    if _is_split(far, crossings):
        crossings = [crossing for crossing in crossings if not _changes_isn(crossing)]
    return tuple(sorted(crossings, key=lambda crossing: crossing.upstream.time))


def _is_split(far: Connection, crossings: Iterable[Crossing]) -> bool:
    """Whether a box between the captures completed the handshake with the responder itself."""
    ack = far.handshake.ack
    return ack is not None and all(crossing.downstream is not ack for crossing in crossings)


def _changes_isn(crossing: Crossing) -> bool:
    """Whether a SYN or SYN/ACK has another ISN downstream: then a box there sent its own."""
    return bool(crossing.upstream.flags & SYN) and crossing.upstream.seq != crossing.downstream.seq


class _Comparison:
    """What two captures of one connection allow to compare.

    Sequence numbers count from the SYN where both captures have it, and are taken as they are
    otherwise. Payloads are compared unless a snap length cut one of them.
    """

    def __init__(self, near: Connection, far: Connection) -> None:
        both = (near, far)
        self._payload = all(
            segment.captured == segment.length for one in both for segment in one.segments
        )
        self._relative = {
            True: all(one.by_initiator.isn_seen for one in both),
            False: all(one.by_responder.isn_seen for one in both),
        }

    def by_key(self, connection: Connection, *, outward: bool) -> dict[_Key, list[Segment]]:
        """The segments of one direction by what all sightings of a segment have in common."""
        own = connection.by_initiator.isn if self._relative[True] else 0
        peer = connection.by_responder.isn if self._relative[False] else 0
        if outward:
            direction = connection.by_initiator
        else:
            direction, own, peer = connection.by_responder, peer, own
        keyed: dict[_Key, list[Segment]] = defaultdict(list)
        for segment in direction.segments:
            flags = segment.flags & (SYN | FIN | RST | ACK)
            payload = segment.payload if self._payload and segment.length else b""
            key = (
                segment.seq - own & 0xFFFF_FFFF,
                segment.ack - peer & 0xFFFF_FFFF if flags & ACK else None,
                segment.length,
                hash(payload),
                flags,
            )
            keyed[key].append(segment)
        return keyed


def _match_direction(
    upstream: dict[_Key, list[Segment]], downstream: dict[_Key, list[Segment]]
) -> list[Crossing]:
    """Pair what is unambiguous, then use its transit time to decide about the rest."""
    crossings: list[Crossing] = []
    ambiguous: list[tuple[list[Segment], list[Segment]]] = []
    for key, sent in upstream.items():
        arrived = downstream.get(key)
        if not arrived:
            continue
        if len(sent) == len(arrived) and all(map(_is_causal, sent, arrived)):
            crossings += map(Crossing, sent, arrived)
        else:
            ambiguous.append((sent, arrived))
    typical = int(median(crossing.transit for crossing in crossings)) if crossings else 0
    for sent, arrived in ambiguous:
        crossings += _assign(sent, arrived, typical)
    return crossings


def _assign(
    sent: Sequence[Segment], arrived: Iterable[Segment], typical: int
) -> list[Crossing]:  # fmt: skip
    """Pair in order, each arrival with the sending nearest to a typical transit before it."""
    crossings = []
    times = [segment.time for segment in sent]
    next_free = 0
    for segment in arrived:
        latest = bisect_left(times, segment.time + SLACK + 1)  # the first one sent too late
        expected = segment.time - typical
        after = bisect_left(times, expected, next_free)
        best = min(
            (index for index in (after - 1, after) if next_free <= index < latest),
            key=lambda index: abs(times[index] - expected),
            default=None,
        )
        if best is not None:
            crossings.append(Crossing(sent[best], segment))
            next_free = best + 1
    return crossings


def _is_causal(upstream: Segment, downstream: Segment) -> bool:
    return downstream.time >= upstream.time - SLACK
