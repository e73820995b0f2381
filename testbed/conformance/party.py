"""One endpoint of one connection, as the checks look at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from testbed.conformance.profile import Profile
from testbed.trace import Connection, Direction, Endpoint, Segment, Trace
from testbed.trace.ranges import Unwrapper
from testbed.wire.flags import ACK, RST


@dataclass(frozen=True, slots=True)
class Turn:
    """One segment of the connection.

    own: the endpoint sent it; else its peer did.
    start, end: what it occupies in its sender's sequence space, from the SYN on (the SYN is 0).
    ack: what it acknowledges in the other party's sequence space; None without ACK flag.
    window: bytes that it offers; None where that is not known.
    """

    segment: Segment
    own: bool
    start: int
    end: int
    ack: int | None
    window: int | None

    @property
    def time(self) -> float:
        """Seconds since the epoch."""
        return self.segment.time / 1e9

    @property
    def length(self) -> int:
        """Bytes of payload."""
        return self.segment.length

    def has(self, flags: int) -> bool:
        """Whether it has all these flags."""
        return self.segment.flags & flags == flags


@dataclass(frozen=True, eq=False)
class Party:
    """One endpoint of one connection, and what it is held to.

    sent, received: what this endpoint and what its peer sent.
    """

    trace: Trace
    connection: Connection
    sent: Direction
    received: Direction
    profile: Profile

    @property
    def endpoint(self) -> Endpoint:
        return self.sent.flow.source

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """The segments of both sides in the order of the capture, copies left out."""
        copies = {*self.sent.copies, *self.received.copies}
        places = {True: Unwrapper(self.sent.isn), False: Unwrapper(self.received.isn)}
        acks = {True: Unwrapper(self.received.isn), False: Unwrapper(self.sent.isn)}
        turns = []
        for segment in self.connection.segments:
            if segment in copies:
                continue
            own = segment.flow == self.sent.flow
            start = places[own].position(segment.seq)
            known = segment.flags & ACK and (segment.ack or not segment.flags & RST)
            turns.append(
                Turn(
                    segment,
                    own,
                    start,
                    start + segment.span,
                    acks[own].position(segment.ack) if known else None,
                    0 if known and not segment.window else self.connection.window_of(segment),
                )
            )
        return tuple(turns)


def parties_of(trace: Trace, connection: Connection, profile: Profile) -> Iterator[Party]:
    """Initiator and responder."""
    one, other = connection.directions
    yield Party(trace, connection, one, other, profile)
    yield Party(trace, connection, other, one, profile)
