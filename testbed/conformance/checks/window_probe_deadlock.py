"""Window probe deadlock (RFC 2525 section 2.12): ACKs are discarded after a probe was accepted.

RFC 793 section 3.7, RFC 9293 sections 3.8.6.1 and 3.10.7.4: a byte may be accepted beyond the
offered window; acceptable segments are then those with the next sequence number, and their ACKs
count even where the window is closed.

What is looked at: an endpoint that has acknowledged beyond the window it had offered, and then
sends data. It has the problem where it sends data again that the peer has acknowledged at least
twice.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.registry import check
from testbed.trace.analysis import SegmentClass
from testbed.wire.flags import RST, SYN

_LEAST_ACKS = 2
_ON_THEIR_WAY = 1.0  # s; away from the endpoint, ACKs that are younger may not have come


@check("window-probe-deadlock", section="2.12")
def ask(party: Party) -> Ruling:
    accepted = _accepted_beyond(party)
    if accepted is None:
        return undecided("no data was accepted beyond an offered window")
    acks: list[Turn] = []  # in the order of what they acknowledge
    soonest: Turn | None = None
    sent: Turn | None = None
    moved_on = False
    for turn in party.turns:
        if turn.row <= accepted.row or turn.has(RST):
            continue
        if not turn.own:
            if turn.ack is not None and sent is not None and turn.ack > sent.start:
                insort(acks, turn, key=_acknowledged)
                soonest = soonest or turn
        elif turn.length and turn.kind is not SegmentClass.KEEPALIVE:
            covering = acks[bisect_left(acks, turn.end, key=_acknowledged) :]
            if len(covering) >= _LEAST_ACKS:
                covering.sort(key=lambda ack: ack.row)
                return _ignored(party, accepted, covering, turn)
            moved_on = moved_on or (soonest is not None and turn.start >= _acknowledged(soonest))
            sent = sent or turn
        elif turn.window:
            break  # the window is open again
    if moved_on and soonest is not None:
        return passes(
            "new data followed the ACKs that came while the window was closed",
            (accepted.segment, soonest.segment),
        )
    return undecided("too little was sent after data had been accepted beyond an offered window")


def _acknowledged(turn: Turn) -> int:
    return turn.ack or 0


def _ignored(party: Party, accepted: Turn, covering: list[Turn], again: Turn) -> Ruling:
    segments = [turn.segment for turn in (accepted, *covering, again)]
    told = (
        f"{again.length:,} bytes were sent again that {len(covering)} ACKs had acknowledged, after "
        "a byte beyond the offered window was accepted"
    )
    known_for = again.time - covering[_LEAST_ACKS - 1].time if party.timed else 0.0
    if party.at_peer or (not party.at_party and known_for < _ON_THEIR_WAY):
        return undecided(f"{told}; but these ACKs may not have arrived", segments)
    return fails(f"{told}: ACKs in segments with the next sequence number count", segments)


def _accepted_beyond(party: Party) -> Turn | None:
    """The first ACK of the endpoint beyond the window that it had offered."""
    edge: int | None = None
    for turn in party.turns:
        if not turn.own or turn.ack is None or turn.has(SYN):
            continue
        if edge is not None and turn.ack > edge and turn.window == 0:
            return turn
        edge = None if turn.window is None else max(edge or 0, turn.ack + turn.window)
    return None
