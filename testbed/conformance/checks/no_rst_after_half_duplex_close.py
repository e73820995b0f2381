"""Failure to send a RST after half duplex close (RFC 2525 section 2.16).

RFC 1122 section 4.2.2.13, RFC 9293 section 3.6.1: data that arrives when the application has closed
both directions cannot be delivered, and a RST should be sent.

What is looked at: what an endpoint does after its FIN with data that it had not acknowledged
before. An endpoint that only has shut down its direction goes on to receive, so that a failure is
told only where applications are known to close both.
"""

from __future__ import annotations

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.registry import check
from testbed.wire.flags import FIN, RST

_LEAST_PROBES = 3


@check("no-rst-after-half-duplex-close", section="2.16")
def ask(party: Party) -> Ruling:
    fin = next((t for t in party.turns if t.own and t.has(FIN) and not t.has(RST)), None)
    if fin is None:
        return undecided("the endpoint sent no FIN")
    acked = fin.ack or 0
    data = [t for t in party.turns if t.row > fin.row and not t.own and t.length and t.end > acked]
    reset = next((t for t in party.turns if t.row > fin.row and t.own and t.has(RST)), None)
    if reset is not None and data and data[0].row < reset.row:
        return passes(
            "data that came after the FIN was answered by a RST",
            (fin.segment, data[0].segment, reset.segment),
        )
    taken = next((t for t in _later(party, fin) if t.ack is not None and t.ack > acked + 1), None)
    held = _answers_without_window(party, fin)
    if taken is not None and data and data[0].row < taken.row:
        told = f"{(taken.ack or 0) - acked:,} bytes were acknowledged after the FIN"
        shown = [fin, data[0], taken]
    elif len(held) >= _LEAST_PROBES:
        told = (
            f"{len(held)} times after the FIN the peer was told to wait, the window staying closed"
        )
        shown = [fin, *held]
    else:
        return undecided("no new data came after the FIN of the endpoint")
    segments = [turn.segment for turn in shown]
    if not party.known.plain_close:
        return undecided(
            f"{told}, unless only one direction was shut down (plain close?)", segments
        )
    return fails(f"{told}: RFC 9293 (3.6.1) asks for a RST", segments)


def _later(party: Party, fin: Turn) -> list[Turn]:
    return [turn for turn in party.turns if turn.row > fin.row and turn.own]


def _answers_without_window(party: Party, fin: Turn) -> list[Turn]:
    """What the endpoint says to data after its FIN, if its window stays closed all the time."""
    answers = []
    asked = False
    for turn in party.turns:
        if turn.row <= fin.row:
            continue
        if not turn.own:
            asked = asked or bool(turn.length)
        elif turn.has(RST) or turn.window != 0:
            return []
        elif asked:
            answers.append(turn)
            asked = False
    return answers
