"""What each endpoint of a connection sent: new data, repeated, probes, copies."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from testbed.trace.copies import CopyKind, Originals
from testbed.trace.ranges import Ranges, Unwrapper
from testbed.trace.segments import Flow, Segment
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.sequence import difference


class Direction(msgspec.Struct, frozen=True, eq=False):
    """What one endpoint sent.

    isn: its initial sequence number; when its SYN is missing, inferred as one before its first
    segment, and `isn_seen` is False.
    payload_bytes: bytes of payload in all its segments.
    unique_bytes: the same with each byte counted once.
    retransmissions: segments of which a part was sent before; neither probes nor copies are. As
    the capture shows it: what was lost before this point is not "sent before".
    keepalives: repeat the last byte or nothing, to see whether the other side is there (RFC 9293
    section 3.8.4).
    window_probes: ask a closed window whether it is open (section 3.8.6.1).
    forwarded: copies of segments further on their way, on another interface of the capture.
    repeated: copies alike in all, captured twice or duplicated by a link.
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
    keepalives: tuple[Segment, ...]
    window_probes: tuple[Segment, ...]
    forwarded: tuple[Segment, ...]
    repeated: tuple[Segment, ...]
    oversized: tuple[Segment, ...]

    @property
    def copies(self) -> tuple[Segment, ...]:
        """All copies."""
        return self.forwarded + self.repeated


def directions_of(
    segments: Iterable[Segment], outward: Flow, isn: tuple[int, bool], peer_isn: tuple[int, bool]
) -> tuple[Direction, Direction]:
    """What the initiator and the responder sent.

    outward: the flow of the initiator. isn, peer_isn: initial sequence numbers of initiator and
    responder, and whether their SYNs were seen.
    """
    back = Flow(outward.destination, outward.source, outward.around)
    one, other = _Side(outward, *isn), _Side(back, *peer_isn)
    for segment in segments:
        if segment.flow is outward:
            one.send(segment, other)
        else:
            other.flow = segment.flow
            other.send(segment, one)
    return one.direction(), other.direction()


class _Side:
    """One endpoint, while what it sends is read; and what it told its peer last."""

    def __init__(self, flow: Flow, isn: int, isn_seen: bool) -> None:
        self.flow = flow
        self.isn = isn
        self.isn_seen = isn_seen
        self.segments: list[Segment] = []
        self.retransmissions: list[Segment] = []
        self.keepalives: list[Segment] = []
        self.window_probes: list[Segment] = []
        self.copies: dict[CopyKind, list[Segment]] = {kind: [] for kind in CopyKind}
        self.oversized: list[Segment] = []
        self.payload_bytes = 0
        self.mss: int | None = None
        self.ack: int | None = None
        self.window: int | None = None
        self._originals = Originals()
        self._sequence = Unwrapper(isn)
        self._seen = Ranges()
        self._data = Ranges()
        self._probed: tuple[int, int] | None = None

    def send(self, segment: Segment, peer: _Side) -> None:
        """Take the next segment of this side."""
        self.segments.append(segment)
        flags, length = segment.flags, segment.length
        copy = self._originals.recognise(segment)
        if copy is not None:
            self.copies[copy].append(segment)
            return
        if length or flags & (FIN | SYN):
            self.payload_bytes += length
            if peer.mss is not None and length > peer.mss:
                self.oversized.append(segment)
            if not flags & RST:
                self._occupy(segment, peer)
        elif flags & (ACK | RST) == ACK and self._is_behind(segment, peer):
            probes = self.keepalives if peer.window else self.window_probes
            probes.append(segment)
        if flags & ACK and not flags & RST:
            self.window = segment.window
            if self.ack is None or difference(segment.ack, self.ack) > 0:
                self.ack = segment.ack
        if flags & SYN:
            self.mss = segment.options.mss or self.mss

    def _is_behind(self, segment: Segment, peer: _Side) -> bool:
        """Whether its sequence number is one that the other side has acknowledged already."""
        return (
            peer.ack is not None
            and self._seen.end is not None
            and difference(segment.seq, peer.ack) == -1
        )

    def _occupy(self, segment: Segment, peer: _Side) -> None:
        """Note which sequence numbers a segment has, and what that says about it."""
        start = self._sequence.position(segment.seq)
        end = start + segment.span
        if self._probed is not None:
            self._settle_probe(segment, start, peer)
        if segment.length == 1 and not segment.flags & (SYN | FIN) and peer.ack is not None:
            ahead = difference(segment.seq, peer.ack)
            if ahead == -1 and self._seen.end == end:
                self.keepalives.append(segment)
                return
            if ahead == 0 and peer.window == 0:
                self.window_probes.append(segment)
                self._data.add(start, end)
                self._probed = start, end
                return
        if self._seen.overlaps(start, end):
            self.retransmissions.append(segment)
        self._seen.add(start, end)
        payload = start + (segment.flags >> 1 & 1)
        self._data.add(payload, payload + segment.length)

    def _settle_probe(self, segment: Segment, start: int, peer: _Side) -> None:
        """A probe's byte counts as sent once it was acknowledged, although the window was closed.

        Until then it may be sent again with what follows, and that is no retransmission.
        """
        assert self._probed is not None and peer.ack is not None
        if start + difference(peer.ack, segment.seq) >= self._probed[1]:
            self._seen.add(*self._probed)
            self._probed = None

    def direction(self) -> Direction:
        return Direction(
            flow=self.flow,
            isn=self.isn,
            isn_seen=self.isn_seen,
            segments=tuple(self.segments),
            payload_bytes=self.payload_bytes,
            unique_bytes=self._data.total,
            retransmissions=tuple(self.retransmissions),
            keepalives=tuple(self.keepalives),
            window_probes=tuple(self.window_probes),
            forwarded=tuple(self.copies[CopyKind.FORWARDED]),
            repeated=tuple(self.copies[CopyKind.REPEATED]),
            oversized=tuple(self.oversized),
        )
