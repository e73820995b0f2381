"""TCP connections as a capture shows them: who opened, what was sent twice, how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from testbed.trace.analysis import Analysis, RepeatReason, analyse
from testbed.trace.directions import Direction
from testbed.trace.endings import End, endings
from testbed.trace.handshake import Handshake, HandshakeRtt, opening_rows, read_handshake
from testbed.trace.segments import Endpoint, Flow, Segment
from testbed.trace.source import Buffer
from testbed.trace.table import SegmentTable, segments_of
from testbed.wire.flags import ACK, RST, SYN


@dataclass(frozen=True, eq=False)
class Connection:
    """One TCP connection; everything beyond its rows of a table is computed when asked for.

    number: position in its trace, from 1.
    outward: the direction from initiator to responder; its SYN tells. back: the other one.
    whole, rows: its segments are those rows of a table; `data` is what their positions are in.
    guessed: the SYN is not in the capture and the initiator is inferred, from the SYN/ACK or
    else as the side with the higher port.
    ordered: time never goes back in the capture.
    """

    number: int
    outward: Flow
    back: Flow
    whole: SegmentTable
    rows: slice
    data: Buffer
    guessed: bool
    ordered: bool = True

    @cached_property
    def table(self) -> SegmentTable:
        """The segments as columns."""
        return self.whole.take(self.rows)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The segments as objects, in the order of the capture."""
        return tuple(segments_of(self.table, self.data, self.outward, self.back))

    @property
    def initiator(self) -> Endpoint:
        return self.outward.source

    @property
    def responder(self) -> Endpoint:
        return self.outward.destination

    @property
    def start(self) -> int:
        """ns since the epoch of the earliest segment."""
        time = self.whole.time[self.rows]
        return int(time[0] if self.ordered else time.min())

    @property
    def end(self) -> int:
        """ns since the epoch of the latest segment."""
        time = self.whole.time[self.rows]
        return int(time[-1] if self.ordered else time.max())

    @property
    def around(self) -> tuple[str, ...]:
        """The VLANs and tunnels that it is in, from the outside in."""
        return self.outward.around

    def is_outward(self, segment: Segment) -> bool:
        """Whether the initiator sent it."""
        return segment.flow is self.outward

    @property
    def by_initiator(self) -> Direction:
        return self.directions[0]

    @property
    def by_responder(self) -> Direction:
        return self.directions[1]

    @cached_property
    def analysis(self) -> Analysis:
        """What each segment is, with the vantage point estimated; `analyse` takes another one."""
        return analyse(self)

    @cached_property
    def directions(self) -> tuple[Direction, Direction]:
        """What the initiator sent, and what the responder sent."""
        return (
            Direction(self.outward, 0, self.analysis, lambda: self.segments),
            Direction(self.back, 1, self.analysis, lambda: self.segments),
        )

    @property
    def client(self) -> Direction:
        """What the initiator sent: `by_initiator` as tests call it."""
        return self.by_initiator

    @property
    def server(self) -> Direction:
        """What the responder sent."""
        return self.by_responder

    def relative_seq(self, segment: Segment) -> int:
        """Sequence number from the sender's SYN on (the SYN is 0), modulo 2^32."""
        return segment.seq - self._isn(self.is_outward(segment)) & 0xFFFF_FFFF

    def relative_ack(self, segment: Segment) -> int | None:
        """Acknowledgment from the other side's SYN on, modulo 2^32; None without ACK flag."""
        if not segment.flags & ACK:
            return None
        return segment.ack - self._isn(not self.is_outward(segment)) & 0xFFFF_FFFF

    def window_of(self, segment: Segment) -> int | None:
        """The window that a segment offers, in bytes.

        None where it has none (no ACK flag), or is scaled by a factor that was not captured (RFC
        7323 section 2.3).
        """
        if not segment.flags & ACK or segment.flags & RST:
            return None
        if segment.flags & SYN:
            return segment.window
        scale = int(self.analysis.progress.scale[0, int(not self.is_outward(segment))])
        return None if scale < 0 else segment.window << scale

    def retransmissions(
        self, reason: RepeatReason | None = None, *, needless: bool | None = None
    ) -> tuple[Segment, ...]:
        """Those of both directions, in the order of the capture; see `Direction`."""
        both = [
            segment
            for direction in self.directions
            for segment in direction.retransmissions(reason, needless=needless)
        ]
        return tuple(sorted(both, key=lambda segment: segment.number))

    @cached_property
    def handshake(self) -> Handshake:
        rows, _ = opening_rows(self.table, self.analysis.progress.ignored)
        return read_handshake([self.segments[row] for row in rows.tolist()], self.outward)

    @property
    def handshake_rtt(self) -> HandshakeRtt | None:
        """None unless SYN, SYN/ACK and ACK are all in the capture."""
        return self.handshake.rtt

    @cached_property
    def ended(self) -> End:
        """How it ended, within the capture; see `endings`."""
        return endings(self.table)[0]

    @property
    def initiator_isn(self) -> int | None:
        """The initiator's initial sequence number; None when its SYN is not in the capture."""
        one = self.by_initiator
        return one.isn if one.isn_seen else None

    def _isn(self, outward: bool) -> int:
        return self.directions[not outward].isn

    def __repr__(self) -> str:
        return (
            f"<Connection {self.number} {self.initiator} > {self.responder}: "
            f"{len(self.table)} segments, {self.ended.value}>"
        )
