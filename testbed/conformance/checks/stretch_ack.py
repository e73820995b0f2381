"""Stretch ACK violation (RFC 2525 section 2.13): fewer than one ACK for two full-sized segments.

RFC 1122 section 4.2.3.2 and RFC 5681 section 4.2: there should be an ACK for at least every second
full-sized segment; RFC 9293 section 3.8.6.3 adds: or 2 MSS of new data. Receivers that merge what
arrives (GRO, LRO) stretch ACKs today, and their captures show segments beyond the MSS.

Sender and receiver may not agree on what is full-sized: an ACK for each 2 MSS of new data, by the
MSS that the receiver has named, will do (RFC 5681 section 4.2).

What is looked at, in a capture at the receiver, where no ACK can have been lost: how much each ACK
acknowledges while no data is missing and the window moves on. Most of them, and three at least,
must be of more than two segments. Where all are of no more, any capture will do.
"""

from __future__ import annotations

from heapq import heappop, heappush

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.registry import check
from testbed.trace.analysis import SegmentClass
from testbed.wire.flags import FIN, SYN
from testbed.wire.options import ASSUMED_MSS

_LEAST_ACKS = 2
_LEAST_STRETCHED = 3
_IN_ORDER = (SegmentClass.NEW_DATA, SegmentClass.WINDOW_PROBE)


@check("stretch-ack", section="2.13")
def ask(party: Party) -> Ruling:
    size = party.full_size
    acks = _of_full_segments(party, size) if size else []
    if len(acks) < _LEAST_ACKS:
        return undecided("too few ACKs of two or more full-sized segments in order")
    stretched = [(ack, number) for ack, number in acks if number > 2]
    told = f"{len(stretched)} of {len(acks)} ACKs were of more than two segments of {size:,} bytes"
    if not stretched:
        return passes(told, (acks[0][0].segment, acks[-1][0].segment))
    segments = [ack.segment for ack, _ in stretched[:_LEAST_STRETCHED]]
    own = party.own_mss or max(size, ASSUMED_MSS[4])
    stretched = [(ack, number) for ack, number in stretched if number * size > 2 * own]
    if not stretched:
        return undecided(f"{told}, but of no more than twice the receiver's {own:,}", segments)
    if party.offloaded or party.missing:
        return undecided(f"{told}; {party.offloaded or party.missing}", segments)
    if not party.at_party:
        return undecided(
            f"{told}; but ACKs may have been lost: the capture was not taken at the receiver, or "
            "nothing tells where it was",
            segments,
        )
    if len(stretched) < _LEAST_STRETCHED or 2 * len(stretched) <= len(acks):
        return undecided(f"{told}: not most", segments)
    most = max(number for _, number in stretched)
    return fails(
        f"{told}, the longest of {most}: RFC 5681 (4.2) asks for one at least every second",
        segments,
    )


def _of_full_segments(party: Party, size: int) -> list[tuple[Turn, int]]:
    """Each ACK of two or more full-sized segments, and of how many.

    Only where they came in order and the window's end moved on. The first ACK of a capture without
    the SYN acknowledges what was captured, or more: it counts where that is more than two segments.
    """
    found: list[tuple[Turn, int]] = []
    before: Turn | None = None
    disturbed = False
    ends: list[int] = []
    for turn in party.turns:
        if not turn.own:
            ordinary = not turn.length or turn.kind in _IN_ORDER
            disturbed = disturbed or not ordinary or turn.has(FIN)
            if turn.length == size:
                heappush(ends, turn.end)
        elif turn.ack is not None and (before is None or turn.ack > (before.ack or 0)):
            number = 0
            while ends and ends[0] <= turn.ack:
                heappop(ends)
                number += 1
            if not disturbed and (_moves_on(before, turn) if before else number > 2) and number > 1:
                found.append((turn, number))
            disturbed = disturbed and bool(ends)
            before = turn
    return found


def _moves_on(before: Turn, after: Turn) -> bool:
    """Whether the application reads: the end of the offered window moves with the data."""
    if before.window is None or after.window is None or before.has(SYN):
        return before.segment.window <= after.segment.window  # in whatever unit
    moved = (after.ack or 0) + after.window - (before.ack or 0) - before.window
    return 2 * moved >= (after.ack or 0) - (before.ack or 0)
