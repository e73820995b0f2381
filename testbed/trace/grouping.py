"""Segments grouped into connections while they are read.

Only segments with SYN, FIN or RST can change the grouping, so the reader calls `Track.control`
for those alone and appends every other one straight to the list of its group.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from testbed.trace.protocols import VLAN
from testbed.trace.segments import Endpoint, Flow, Segment
from testbed.wire.flags import ACK, FIN, RST, SYN


class Group:
    """The segments of one connection, and what decides whether a SYN still belongs to it.

    before: the connection before it between the same endpoints, and `interrupted`: whether that
    one was not over.
    answered: a SYN of this one was answered by a SYN/ACK.
    """

    __slots__ = (
        "answered", "before", "finished", "initiator", "interrupted", "isns", "reset", "segments",
        "syn_acks", "track",
    )  # fmt: skip

    def __init__(self, track: Track, before: Group | None = None) -> None:
        self.track = track
        self.before = before
        self.interrupted = before is not None and not before.over
        self.answered = False
        self.segments: list[Segment] = []
        self.initiator: Flow | None = None
        self.isns: dict[Flow, int] = {}
        self.syn_acks: dict[Flow, int] = {}
        self.finished: set[Flow] = set()
        self.reset = False

    @property
    def over(self) -> bool:
        return self.reset or len(self.finished) == 2

    def note(self, segment: Segment) -> None:
        """Remember a segment that has SYN, FIN or RST set."""
        flow = segment.flow
        if segment.flags & RST:
            self.reset = True
        elif segment.flags & SYN:
            self.isns.setdefault(flow, segment.seq)
            if segment.flags & ACK:
                self.answered = True
                self.syn_acks.setdefault(flow, segment.ack)
            elif self.initiator is None:
                self.initiator = flow
        elif segment.flags & FIN:
            self.finished.add(flow)

    def refuses(self, syn: Segment, opposite: Flow) -> bool:
        """Whether this SYN or SYN/ACK begins another connection between the same endpoints."""
        own = self.isns.get(syn.flow)
        peer = self.isns.get(opposite)
        if own == syn.seq:
            return False
        if syn.flags & ACK:
            if peer is not None:
                return self.over and syn.ack != (peer + 1) & 0xFFFF_FFFF
            return own is None or self.over
        if own is not None or peer is None:
            return True
        acknowledged = self.syn_acks.get(opposite)
        if acknowledged is not None and opposite not in self.finished:
            return acknowledged != (syn.seq + 1) & 0xFFFF_FFFF
        return self.over  # both sides sent a SYN: simultaneous open


class Track:
    """One direction between two endpoints, and the group that its segments go to now."""

    __slots__ = ("append", "flow", "group", "groups", "opposite")

    opposite: Track
    group: Group
    append: Callable[[Segment], None]

    def __init__(self, flow: Flow, groups: list[Group]) -> None:
        self.flow = flow
        self.groups = groups

    def begin(self, before: Group | None = None) -> None:
        """Start a new connection between the two endpoints."""
        group = Group(self, before)
        self.groups.append(group)
        for track in (self, self.opposite):
            track.group = group
            track.append = group.segments.append

    def control(self, segment: Segment) -> None:
        """Take note of a segment with SYN, FIN or RST before it is appended."""
        group = self.group
        opens = segment.flags & (SYN | RST) == SYN
        if opens and group.segments and group.refuses(segment, self.opposite.flow):
            self.begin(group)
        self.group.note(segment)


Tracks = dict[bytes | tuple[bytes, tuple[str, ...]], Track]
"""By key: addresses and ports, and with the VLANs and tunnels around them where there are any."""


def new_track(
    key: bytes, tracks: Tracks, groups: list[Group], around: tuple[str, ...] = ()
) -> Track:
    """The track of a key that was not seen before; both directions are entered in `tracks`.

    key: source address, destination address, source port, destination port: 12 or 36 bytes.
    """
    size = (len(key) - 4) // 2
    source, destination = key[:size], key[size:-4]
    ports = key[-4:-2], key[-2:]
    near = Endpoint(str(ip_address(source)), int.from_bytes(ports[0], "big"))
    far = Endpoint(str(ip_address(destination)), int.from_bytes(ports[1], "big"))
    track = Track(Flow(near, far, around), groups)
    back_key = destination + source + ports[1] + ports[0]
    tracks[(key, around) if around else key] = track
    if near == far:  # a connection to itself: one track plays both directions
        track.opposite = track
    else:
        back = Track(Flow(far, near, around), groups)
        tracks[(back_key, around) if around else back_key] = back
        track.opposite, back.opposite = back, track
    track.begin()
    return track


def join_halves(groups: list[Group]) -> list[Group]:
    """The groups, with connections joined of which the two directions have other VLAN tags.

    A mirror port may tag what comes in and not what goes out. Halves belong together where each
    has one direction only and no other half would suit; two VLANs with both directions each are
    two connections.
    """
    if not any(_untagged(group.track.flow) != group.track.flow for group in groups):
        return groups
    directions: dict[frozenset[Flow], set[Flow]] = {}
    of_pair: dict[frozenset[Flow], list[Group]] = {}
    for group in groups:
        pair = frozenset((group.track.flow, group.track.opposite.flow))
        directions.setdefault(pair, set()).update(one.flow for one in group.segments)
        of_pair.setdefault(pair, []).append(group)
    halves: dict[Flow, list[tuple[Flow, list[Group]]]] = {}
    for pair, flows in directions.items():
        if len(pair) == 2 and len(flows) == 1:
            (flow,) = flows
            halves.setdefault(_untagged(flow), []).append((flow, of_pair[pair]))
    joined: list[Group] = []
    parts: set[Group] = set()
    for plain, found in halves.items():
        others = halves.get(Flow(plain.destination, plain.source, plain.around), [])
        if len(found) == len(others) == 1 and found[0][1][0] not in parts:
            one, other = found[0], others[0]
            parts.update(one[1], other[1])
            joined += _grouped_anew(one[0], other[0], [*one[1], *other[1]])
    kept = [group for group in groups if group not in parts]
    return sorted(kept + joined, key=lambda group: group.segments[0].number)


def _untagged(flow: Flow) -> Flow:
    """The flow without the VLANs that it is in."""
    around = tuple(layer for layer in flow.around if not layer.startswith(f"{VLAN} "))
    return flow if around == flow.around else Flow(flow.source, flow.destination, around)


def _grouped_anew(there: Flow, back: Flow, parts: list[Group]) -> list[Group]:
    """The connections that the segments of two directions make together."""
    groups: list[Group] = []
    segments = sorted((s for part in parts for s in part.segments), key=lambda s: s.number)
    if segments[0].flow is back:
        there, back = back, there
    track, opposite = Track(there, groups), Track(back, groups)
    track.opposite, opposite.opposite = opposite, track
    track.begin()
    for segment in segments:
        sender = track if segment.flow is there else opposite
        if segment.flags & (FIN | SYN | RST):
            sender.control(segment)
        sender.append(segment)
    return groups


def put_strays_back(groups: list[Group]) -> list[Group]:
    """The groups, with what belongs to an older connection put back into that.

    A SYN with another sequence number inside a connection is answered by a challenge ACK (RFC
    9293 section 3.10.7.4). Either the connection goes on; then nothing answers the SYN with a
    SYN/ACK. Or its client is gone and answers with a RST, and tries again; then challenge ACK and
    RST are the last segments of the older connection.
    """
    owner: dict[Group, Group] = {}
    kept = []
    for group in groups:
        old = group.before
        if old is None:
            kept.append(group)
            continue
        old = owner.get(old, old)
        if group.interrupted and not group.answered and _goes_on(group):
            old.segments += group.segments
            owner[group] = old
            continue
        kept.append(group)
        if group.answered and (strays := _before_the_answer(group)):
            old.segments += strays
            taken = set(strays)
            group.segments[:] = [one for one in group.segments if one not in taken]
    return kept


def _goes_on(group: Group) -> bool:
    """Whether both sides send after the SYN, so that the older connection must be alive."""
    senders = {one.flow for one in group.segments if not one.flags & (SYN | RST)}
    return len(senders) == 2 or group.track.opposite is group.track


def _before_the_answer(group: Group) -> list[Segment]:
    """The segments without SYN between a SYN and the SYN/ACK: numbers of another connection."""
    strays: list[Segment] = []
    for segment in group.segments:
        if segment.flags & (SYN | ACK) == SYN | ACK:
            return strays
        if not segment.flags & SYN and not segment.length:
            strays.append(segment)
    return []
