"""Failure to send FIN notification promptly (RFC 2525 section 2.15).

RFC 793 section 3.5, RFC 9293 section 3.6: the FIN follows the last data, as far as the windows let
it; it does not wait for that data to be acknowledged.

What is looked at: whether data was still unacknowledged when the FIN was sent. A FIN has a sequence
number, for which a window that the data has filled has no room. Where none was, only
the application knows whether it had closed before: a failure is told only where applications are
known to close right after their last write.
"""

from __future__ import annotations

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.registry import check
from testbed.trace.analysis import SegmentClass
from testbed.wire.flags import FIN, RST


@check("fin-not-sent-promptly", section="2.15")
def ask(party: Party) -> Ruling:
    fin = next((t for t in party.turns if t.own and t.has(FIN) and not t.has(RST)), None)
    before = [turn for turn in party.turns if fin is not None and turn.row < fin.row]
    sent = [t for t in before if t.own and t.length and t.kind is not SegmentClass.KEEPALIVE]
    if fin is None or not (fin.length or sent):
        return undecided("the endpoint sent no FIN after data")
    if fin.length:
        return passes("the FIN came with the last data", (fin.segment,))
    last = max(sent, key=lambda turn: (turn.end, -turn.row))
    since = [turn for turn in before if not turn.own and turn.row > last.row]
    ack = next((turn for turn in since if (turn.ack or 0) >= last.end), None)
    if ack is None:
        return passes("the FIN came while data was unacknowledged", (last.segment, fin.segment))
    return _waited(party, last, ack, fin, spoken=any(t.length or t.has(FIN) for t in since))


def _waited(party: Party, last: Turn, ack: Turn, fin: Turn, *, spoken: bool) -> Ruling:
    """spoken: the peer sent something that may have been the reason to close."""
    segments = last.segment, ack.segment, fin.segment
    if not _had_room(party, last):
        return undecided("the window had no room for the FIN, as far as it shows", segments)
    told = (
        f"the FIN came {fin.time - last.time:.3f} s after the last data, and "
        f"{fin.time - ack.time:.3f} s after that was acknowledged"
    )
    if spoken:
        return undecided(f"{told}; but the peer had sent something meanwhile", segments)
    if party.at_peer:
        return undecided(f"{told}, as seen by its receiver", segments)
    if not party.known.plain_close:
        return undecided(
            f"{told}, unless the application closed only then (plain close?)", segments
        )
    if party.missing:
        return undecided(party.missing, segments)
    return fails(f"{told}: RFC 9293 (3.6) sends it after the last data", segments)


def _had_room(party: Party, last: Turn) -> bool:
    """Whether the window, which may be larger by an unknown scale, goes beyond the last data."""
    edges = (
        turn.ack + (turn.segment.window if turn.window is None else turn.window)
        for turn in party.turns
        if not turn.own and turn.row < last.row and turn.ack is not None
    )
    return max(edges, default=0) > last.end
