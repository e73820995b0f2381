"""Failure to RST on close with data pending (RFC 2525 section 2.17).

RFC 1122 section 4.2.2.13, RFC 9293 section 3.6.1: an application that closes while data waits to be
read loses it, and the peer should be told by a RST instead of a FIN.

What is looked at: what an endpoint sends first to end a connection when its window is closed after
data has come, as that waits to be read then. A shutdown() of its own direction sends a FIN rightly,
so that a failure is told only where applications are known to close both.
"""

from __future__ import annotations

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.registry import check
from testbed.wire.flags import FIN, RST, SYN


@check("no-rst-on-close-with-data-pending", section="2.17")
def ask(party: Party) -> Ruling:
    closed: Turn | None = None
    received = False
    for turn in party.turns:
        if not turn.own or turn.has(SYN):
            received = received or bool(turn.length and not turn.own)
            continue
        if turn.has(RST):
            if closed is None:
                return undecided("the window was open when the endpoint ended the connection")
            return passes(
                "a RST was sent while data waited to be read", (closed.segment, turn.segment)
            )
        if turn.has(FIN):
            return _by_fin(party, closed, turn)
        closed = turn if turn.window == 0 and received else None
    return undecided("the endpoint did not end the connection")


def _by_fin(party: Party, closed: Turn | None, fin: Turn) -> Ruling:
    if closed is None:
        return undecided("the window was open when the endpoint ended the connection")
    segments = closed.segment, fin.segment
    if fin.window != 0:
        return undecided("the window opened with the FIN: the data may have been read", segments)
    told = "a FIN was sent while the window was closed, that is, while data waited to be read"
    if not party.known.plain_close:
        return undecided(
            f"{told}, unless only one direction was shut down (plain close?)", segments
        )
    return fails(f"{told}: RFC 9293 (3.6.1) asks for a RST", segments)
