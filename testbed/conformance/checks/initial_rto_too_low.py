"""Initial RTO too low (RFC 2525 section 2.7): sent again before a round trip could have passed.

RFC 1122 section 4.2.3.1 let the first time-out, before any round trip was measured, be 3 seconds;
RFC 6298 section 2.1 has made it 1 second, and 3 again for data where the SYN was sent again (5.7).
After the handshake has shown a round trip, the time-out follows from that.

What is looked at: a SYN or SYN/ACK that is sent again while the peer is silent; and data that is
sent again before any of it was acknowledged, sooner than the round trip of the handshake.
"""

from __future__ import annotations

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.registry import check
from testbed.wire.flags import FIN, RST, SYN

_TIMER_ERROR = 0.9
_JITTER = 0.5  # what delays on the way can make of an interval, where it is not seen at its sender


@check("initial-rto-too-low", section="2.7")
def ask(party: Party) -> Ruling:
    if not party.timed:
        return undecided("the trace tells no times")
    rulings = [_of_the_syn(party), _of_the_first_data(party)]
    for ruling in rulings:
        if ruling is not None and ruling.answer == "fail":
            return ruling
    for ruling in rulings:
        if ruling is not None:
            return ruling
    return undecided("nothing was sent again, or waited long, before a round trip was measured")


def _of_the_syn(party: Party) -> Ruling | None:
    first: Turn | None = None
    for turn in party.turns:
        if not turn.own:
            if first is not None:
                return None
        elif turn.has(SYN) and not turn.has(RST):
            if first is None:
                first = turn
                continue
            gap = turn.time - first.time
            least = party.profile.initial_rto
            told = f"a SYN was sent again after {gap:.3f} s"
            rule = f"{party.profile.initial_rto_source}, asks for {least:g} s"
            segments = first.segment, turn.segment
            if gap >= _TIMER_ERROR * least:
                return passes(f"{told}: {rule}", segments)
            if party.at_party or gap < _JITTER * least:
                return fails(f"{told}: {rule}", segments)
            return undecided(f"{told}, as seen where the capture was taken", segments)
        else:
            return None
    return None


def _of_the_first_data(party: Party) -> Ruling | None:
    """Data that nothing was acknowledged of yet, sent again or not.

    Not that which a server sends before the handshake is over (RFC 7413): it knows no round trip.
    """
    first: Turn | None = None
    shaken = False
    for turn in party.turns:
        data = turn.length and not turn.has(SYN)
        if turn.own and data and first is None:
            first = turn
        elif turn.own and first is not None and (data or turn.has(FIN)):
            if turn.start == first.start:
                return _sent_again(party, first, turn) if shaken else None
        elif not turn.own and first is None:
            shaken = shaken or (turn.ack is not None and turn.ack >= 1)
        elif not turn.own and first is not None:
            if turn.ack is not None and turn.ack > first.start:
                waited = turn.time - first.time
                if party.sent.isn_seen and waited >= party.profile.initial_rto:
                    return passes(
                        f"the first data was acknowledged after {waited:.2f} s, and not sent again",
                        (first.segment, turn.segment),
                    )
            return None
    return None


def _sent_again(party: Party, first: Turn, again: Turn) -> Ruling | None:
    handshake = party.connection.handshake_rtt
    if handshake is None:
        return None
    measured = handshake.to_initiator if party.side else handshake.to_responder
    if measured is None:
        return undecided("nothing tells which SYN was answered", (first.segment, again.segment))
    gap, trip = again.time - first.time, measured / 1e9
    told = f"the first data was sent again after {gap:.3f} s, the handshake took {trip:.3f} s"
    if gap >= trip:
        return passes(told, (first.segment, again.segment))
    if gap >= _TIMER_ERROR * trip or party.missing:
        return undecided(party.missing or told, (first.segment, again.segment))
    return fails(
        f"{told}: a time-out (RFC 6298, 2.2) is longer than a round trip",
        (first.segment, again.segment),
    )
