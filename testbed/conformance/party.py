"""One endpoint of one connection, as the checks look at it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import msgspec

from testbed.conformance.profile import Profile
from testbed.trace import Connection, Direction, Endpoint, Segment, Trace
from testbed.trace.analysis import Analysis, SegmentClass, SegmentMark, VantagePoint, analyse
from testbed.trace.analysis.progress import NOTHING
from testbed.trace.analysis.samples import by_sequence
from testbed.wire.flags import SYN
from testbed.wire.options import ASSUMED_MSS

_COPIES = (SegmentClass.DUPLICATE, SegmentClass.COPY)
_NS = 1e9


class Circumstances(msgspec.Struct, frozen=True):
    """What is known of a trace and does not show in it.

    vantage: where it was captured; None: as the trace tells.
    default_settings: no application has changed a setting of TCP, such as those of keepalive.
    plain_close: applications end with close() right after their last write, never with shutdown().
    """

    vantage: VantagePoint | None = None
    default_settings: bool = False
    plain_close: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """One segment of the connection.

    row: its place in the connection. own: the endpoint sent it; else its peer did.
    start, end: what it occupies in its sender's sequence space, from the SYN on (the SYN is 0).
    ack: what it acknowledges in the other side's sequence space; None without ACK flag.
    window: bytes that it offers; None where that is not known.
    """

    row: int
    segment: Segment
    own: bool
    start: int
    end: int
    ack: int | None
    window: int | None
    kind: SegmentClass

    @property
    def time(self) -> float:
        """Seconds since the epoch."""
        return self.segment.time / _NS

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

    side: 0 for the initiator, 1 for the responder.
    sent, received: what this endpoint and what its peer sent.
    turns: the segments of both in the order of the capture, copies left out.
    """

    trace: Trace
    connection: Connection
    analysis: Analysis
    side: int
    turns: tuple[Turn, ...]
    profile: Profile
    known: Circumstances

    @property
    def sent(self) -> Direction:
        return self.connection.directions[self.side]

    @property
    def received(self) -> Direction:
        return self.connection.directions[1 - self.side]

    @property
    def endpoint(self) -> Endpoint:
        return self.sent.flow.source

    def turns_after(self, place: int) -> Iterator[Turn]:
        """The turns behind a place among them; what is before costs nothing."""
        return map(self.turns.__getitem__, range(place + 1, len(self.turns)))

    @property
    def at_party(self) -> bool:
        """Whether the capture was taken at this endpoint."""
        return self.analysis.vantage.is_at(self.side)

    @property
    def at_peer(self) -> bool:
        """Whether the capture was taken at the other endpoint."""
        return self.analysis.vantage.is_at(1 - self.side)

    @cached_property
    def round_trip(self) -> float:
        """What a round trip takes at least, in s: by the handshake and by ACKs of new data."""
        handshake = self.connection.handshake_rtt
        shortest = 0 if handshake is None else handshake.total or 0
        progress = self.analysis.progress
        data, acks = by_sequence(progress, self.analysis.classes, self.side)
        if len(acks):
            lags = progress.table.time[acks] - progress.table.time[data]
            shortest = max(shortest, int(lags.min()))
        return shortest / _NS

    @property
    def timed(self) -> bool:
        """Whether the trace tells times."""
        transcript = self.trace.capture.transcript
        return transcript is None or transcript.timed

    @cached_property
    def missing(self) -> str:
        """Why segments may be missing from the capture; empty where nothing says so."""
        if self.trace.capture.lost:
            return f"the capture lost {self.trace.capture.lost} packets"
        if all(turn.own for turn in self.turns):
            return "the capture has nothing of what the peer sent"
        for side in (0, 1):  # before the beginning of a capture there was data
            unseen = self.analysis.marked(SegmentMark.UNSEEN_ACKED, side=1 - side)
            if self.connection.directions[side].isn_seen and len(unseen):
                return "data is acknowledged that the capture does not have"
        return ""

    @cached_property
    def offloaded(self) -> str:
        """Why segments here may not be those of a wire; empty where nothing says so."""
        if self.sent.oversized or self.received.oversized:
            return "segments exceed the MSS: segmentation offload was on where this was captured"
        return ""

    @cached_property
    def mss(self) -> int | None:
        """What the peer's SYN permits, without options; None where that is not in the capture."""
        return self._named_by(own=False)

    @cached_property
    def largest(self) -> int:
        """Bytes of the largest payload that the endpoint sent."""
        return max((turn.length for turn in self.turns if turn.own), default=0)

    @cached_property
    def sent_until(self) -> tuple[int, ...]:
        """The end of what the endpoint had sent before each of `turns`; one more: by the end."""
        return tuple(accumulate((t.end if t.own else 0 for t in self.turns), max, initial=0))

    @cached_property
    def own_mss(self) -> int | None:
        """What the endpoint's own SYN permits the peer; None where that is not in the capture."""
        return self._named_by(own=True)

    def _named_by(self, *, own: bool) -> int | None:
        for turn in self.turns:
            if turn.own is own and turn.has(SYN):
                version = 6 if ":" in self.endpoint.address else 4
                return turn.segment.options.mss or ASSUMED_MSS[version]
        return None

    @cached_property
    def full_size(self) -> int:
        """Bytes of payload of the peer's full-sized segments: its largest."""
        return max((turn.length for turn in self.turns if not turn.own), default=0)


def parties_of(
    trace: Trace, connection: Connection, profile: Profile, known: Circumstances
) -> Iterator[Party]:
    """Initiator and responder."""
    analysis = analyse(connection, vantage=known.vantage)
    for side in (0, 1):
        turns = tuple(_turns(connection, analysis, side))
        yield Party(trace, connection, analysis, side, turns, profile, known)


def _turns(connection: Connection, analysis: Analysis, side: int) -> Iterator[Turn]:
    progress = analysis.progress
    senders, starts, ends = (
        column.tolist() for column in (progress.side, progress.position, progress.end)
    )
    acks, windows = progress.acknowledged.tolist(), progress.window.tolist()
    for row, segment in enumerate(connection.segments):
        kind = analysis.kind(row)
        if kind in _COPIES:
            continue
        ack = None if acks[row] == NOTHING else acks[row]
        window = None if windows[row] < 0 else windows[row]
        if ack is not None and not segment.window:
            window = 0  # by whatever factor
        yield Turn(row, segment, senders[row] == side, starts[row], ends[row], ack, window, kind)
