"""TCP connections as a capture shows them: who opened, what was sent twice, how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import msgspec

from testbed.trace.grouping import Group
from testbed.trace.ranges import Ranges, Unwrapper
from testbed.trace.segments import Endpoint, Flow, Segment
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.sequence import difference


class End(StrEnum):
    """How a connection ended, within the capture."""

    FIN = "FIN"
    RST = "RST"
    HALF_CLOSED = "half-closed"
    OPEN = "open"


class HandshakeRtt(msgspec.Struct, frozen=True):
    """Round trip times of a handshake in ns, as seen where the capture was taken.

    to_responder: from the (last) SYN to the SYN/ACK: the path between here and the responder.
    to_initiator: from the SYN/ACK to its ACK: the path between here and the initiator.
    """

    to_responder: int
    to_initiator: int

    @property
    def total(self) -> int:
        return self.to_responder + self.to_initiator


class Handshake(msgspec.Struct, frozen=True, eq=False):
    """The three segments of a handshake, each None when the capture lacks it.

    syn is the last one before the SYN/ACK; syn_ack the last one before the ACK.
    """

    syn: Segment | None
    syn_ack: Segment | None
    ack: Segment | None

    @property
    def rtt(self) -> HandshakeRtt | None:
        if self.syn is None or self.syn_ack is None or self.ack is None:
            return None
        return HandshakeRtt(self.syn_ack.time - self.syn.time, self.ack.time - self.syn_ack.time)


class Direction(msgspec.Struct, frozen=True, eq=False):
    """What one endpoint sent.

    isn: its initial sequence number; when its SYN is missing, inferred as one before its first
    segment, and `isn_seen` is False.
    payload_bytes: bytes of payload in all its segments; unique_bytes counts each byte once.
    retransmissions: segments of which a part was sent before; neither keepalive nor window
    probes are. As the capture shows it: what was lost before this point is not "sent before".
    oversized: segments larger than the other side's MSS, which no wire carries: the capture was
    taken where segmentation offload is at work.
    """

    flow: Flow
    isn: int
    isn_seen: bool
    segments: tuple[Segment, ...]
    payload_bytes: int
    unique_bytes: int
    retransmissions: tuple[Segment, ...]
    oversized: tuple[Segment, ...]


@dataclass(frozen=True, eq=False)
class Connection:
    """One TCP connection; everything beyond its list of segments is computed when asked for.

    number: position in its trace, from 1.
    outward: the direction from initiator to responder; its SYN tells.
    guessed: the SYN is not in the capture and the initiator is inferred, from the SYN/ACK or
    else as the side with the higher port.
    """

    number: int
    outward: Flow
    segments: tuple[Segment, ...]
    guessed: bool

    @property
    def initiator(self) -> Endpoint:
        return self.outward.source

    @property
    def responder(self) -> Endpoint:
        return self.outward.destination

    @property
    def start(self) -> int:
        """ns since the epoch of the first segment."""
        return self.segments[0].time

    @property
    def end(self) -> int:
        """ns since the epoch of the last segment."""
        return self.segments[-1].time

    def is_outward(self, segment: Segment) -> bool:
        """Whether the initiator sent it."""
        return segment.flow is self.outward

    @cached_property
    def by_initiator(self) -> Direction:
        return _direction(self, outward=True)

    @cached_property
    def by_responder(self) -> Direction:
        return _direction(self, outward=False)

    def direction_of(self, segment: Segment) -> Direction:
        return self.by_initiator if self.is_outward(segment) else self.by_responder

    def relative_seq(self, segment: Segment) -> int:
        """Sequence number from the sender's SYN on (the SYN is 0), modulo 2^32."""
        return segment.seq - self._isn(self.is_outward(segment)) & 0xFFFF_FFFF

    def relative_ack(self, segment: Segment) -> int | None:
        """Acknowledgment from the other side's SYN on, modulo 2^32; None without ACK flag."""
        if not segment.flags & ACK:
            return None
        return segment.ack - self._isn(not self.is_outward(segment)) & 0xFFFF_FFFF

    @cached_property
    def retransmissions(self) -> tuple[Segment, ...]:
        """Those of both directions, in the order of the capture."""
        both = self.by_initiator.retransmissions + self.by_responder.retransmissions
        return tuple(sorted(both, key=lambda segment: segment.number))

    @cached_property
    def handshake(self) -> Handshake:
        return _handshake(self)

    @property
    def handshake_rtt(self) -> HandshakeRtt | None:
        """None unless SYN, SYN/ACK and ACK are all in the capture."""
        return self.handshake.rtt

    @cached_property
    def ended(self) -> End:
        """RST when one came before both sides had sent their FIN."""
        finished = set()
        for segment in self.segments:
            if segment.flags & RST:
                return End.RST
            if segment.flags & FIN:
                finished.add(segment.flow)
                if len(finished) == 2:
                    return End.FIN
        return End.HALF_CLOSED if finished else End.OPEN

    @property
    def initiator_isn(self) -> int | None:
        """The initiator's initial sequence number; None when its SYN is not in the capture."""
        isn, seen = self._isns[True]
        return isn if seen else None

    @cached_property
    def _isns(self) -> tuple[tuple[int, bool], tuple[int, bool]]:
        return _isn(self, outward=False), _isn(self, outward=True)

    def _isn(self, outward: bool) -> int:
        return self._isns[outward][0]

    def __repr__(self) -> str:
        return (
            f"<Connection {self.number} {self.initiator} > {self.responder}: "
            f"{len(self.segments)} segments, {self.ended.value}>"
        )


def connection_of(number: int, group: Group) -> Connection:
    """The connection that a group of segments makes."""
    outward = group.initiator
    guessed = outward is None
    if outward is None:
        track = group.track
        first, other = track.flow, track.opposite.flow
        if group.syn_acks:
            outward = other if first in group.syn_acks else first
        else:
            outward = first if first.source.port >= other.source.port else other
    return Connection(number, outward, tuple(group.segments), guessed)


def _isn(connection: Connection, *, outward: bool) -> tuple[int, bool]:
    """The initial sequence number of one direction, and whether its SYN was seen."""
    inferred: int | None = None
    for segment in connection.segments:
        if connection.is_outward(segment) == outward:
            if segment.flags & SYN:
                return segment.seq, True
            if inferred is None and not segment.flags & RST:
                inferred = segment.seq - 1 & 0xFFFF_FFFF
        elif inferred is None and segment.flags & ACK:
            inferred = segment.ack - 1 & 0xFFFF_FFFF
    return inferred or 0, False


def _handshake(connection: Connection) -> Handshake:
    syn: Segment | None = None
    syn_ack: Segment | None = None
    for segment in connection.segments:
        syn_and_ack = segment.flags & (SYN | ACK)
        if segment.flags & RST:
            continue
        if connection.is_outward(segment):
            if syn_and_ack == SYN and syn_ack is None:
                syn = segment
            elif (
                syn_and_ack == ACK
                and syn_ack is not None
                and difference(segment.ack, syn_ack.seq) > 0
            ):
                return Handshake(syn, syn_ack, segment)
        elif syn_and_ack == SYN | ACK:
            syn_ack = segment
    return Handshake(syn, syn_ack, None)


def _direction(connection: Connection, *, outward: bool) -> Direction:
    """Walk through a connection once, watching what one side sends."""
    isn, isn_seen = connection._isns[outward]
    flow = connection.outward
    sent: list[Segment] = []
    retransmissions: list[Segment] = []
    oversized: list[Segment] = []
    sequence, seen, data = Unwrapper(isn), Ranges(), Ranges()
    payload_bytes = 0
    receiver = _Receiver()
    for segment in connection.segments:
        if connection.is_outward(segment) != outward:
            receiver.take(segment)
            continue
        flow = segment.flow
        sent.append(segment)
        payload_bytes += segment.length
        if receiver.mss is not None and segment.length > receiver.mss:
            oversized.append(segment)
        if segment.span == 0 or segment.flags & RST:
            continue
        start = sequence.position(segment.seq)
        if receiver.is_probe(segment, start, seen):
            continue
        end = start + segment.span
        if seen.overlaps(start, end):
            retransmissions.append(segment)
        seen.add(start, end)
        payload_start = start + (segment.flags >> 1 & 1)
        data.add(payload_start, payload_start + segment.length)
    if not sent and outward is False:
        flow = Flow(connection.responder, connection.initiator)
    return Direction(
        flow=flow,
        isn=isn,
        isn_seen=isn_seen,
        segments=tuple(sent),
        payload_bytes=payload_bytes,
        unique_bytes=data.total,
        retransmissions=tuple(retransmissions),
        oversized=tuple(oversized),
    )


class _Receiver:
    """What the receiving side has said so far."""

    def __init__(self) -> None:
        self.mss: int | None = None
        self.ack: int | None = None
        self.window: int | None = None

    def take(self, segment: Segment) -> None:
        if segment.flags & SYN:
            self.mss = segment.options.mss or self.mss
        if segment.flags & ACK and not segment.flags & RST:
            self.window = segment.window
            if self.ack is None or difference(segment.ack, self.ack) > 0:
                self.ack = segment.ack

    def is_probe(self, segment: Segment, start: int, seen: Ranges) -> bool:
        """Whether one byte of payload is there to provoke an ACK, not to be delivered.

        A keepalive probe repeats the last byte although it was acknowledged (RFC 9293, 3.8.4);
        a window probe sends the byte that a closed window does not allow (3.8.6.1).
        """
        if segment.length != 1 or segment.flags & (SYN | FIN) or self.ack is None:
            return False
        ahead = difference(segment.seq, self.ack)
        if ahead == -1:
            return seen.end == start + 1
        return ahead == 0 and self.window == 0
