"""Failure of window deflation after loss recovery (RFC 2525 section 2.8).

RFC 2001, RFC 5681 section 3.2 (step 6): the window, which duplicate ACKs have inflated in fast
recovery, is set back to half of what was in flight. With SACK nothing is inflated (RFC 6675), and
other congestion controls reduce by less (RFC 9438).

What is looked at: after a fast retransmission without SACK, what is sent between the ACK of all
that was out then and the next. More in flight than ever before, by at least three segments sent at
once, is no reduction by any rule. What is sent later, or is asked for by what comes with the ACK,
was not there before: then little was in flight because there was little to send.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.registry import check
from testbed.trace.analysis import Needless, RepeatReason, SegmentMark
from testbed.wire.flags import SYN

_LEAST_BURST = 3  # segments
_PROMPT = 0.02  # s, beside the way to the sender


@check("no-window-deflation", section="2.8")
def ask(party: Party) -> Ruling:
    if party.at_peer:
        return undecided("the capture was taken at the receiver: what is in flight does not show")
    if any(turn.segment.options.sack_permitted for turn in party.turns if turn.has(SYN)):
        return undecided("with SACK no window is inflated")
    good: Ruling | None = None
    recover = -1
    largest = _largest_flights(party.turns)
    for repeat in party.analysis.repeats_of(party.side):
        if repeat.reason is not RepeatReason.FAST or repeat.needless is not Needless.NO:
            continue
        at = bisect_left(party.turns, repeat.row, key=lambda turn: turn.row)
        if party.turns[at].start < recover:
            continue  # of the same recovery
        recover = party.sent_until[at]
        ruling = _recovery(party, at, recover, largest[at])
        if ruling is not None and ruling.answer == "fail":
            return undecided(party.missing, ruling.segments) if party.missing else ruling
        good = good or ruling
    return good or undecided("no data followed a fast recovery without SACK")


def _recovery(party: Party, at: int, recover: int, largest: int) -> Ruling | None:
    """What followed one fast retransmission; None where that says nothing.

    at: its place among the turns. recover: the end of what was out then. largest: in flight before.
    """
    acks = (n for n in range(at, len(party.turns)) if not party.turns[n].own)
    end = next((n for n in acks if (party.turns[n].ack or 0) >= recover), None)
    if end is None or any(_has_sack(party, turn) for turn in party.turns[max(0, at - 3) : end]):
        return None
    exit_ = party.turns[end]
    burst: list[Turn] = []
    for turn in party.turns_after(end):
        if not turn.own:
            break
        if turn.length:
            burst.append(turn)
    leg = max(0, party.analysis.legs.to(party.side)) / 1e9
    if not burst or exit_.length or burst[0].time - exit_.time > leg + _PROMPT:
        return None
    flight = max(burst[-1].end, party.sent_until[end]) - (exit_.ack or 0)
    told = (
        f"{flight:,} bytes in flight after fast recovery, of which {len(burst)} segments were sent "
        f"at once; before the loss {largest:,} at most"
    )
    segments = [turn.segment for turn in (party.turns[at], exit_, *burst)]
    if len(burst) >= _LEAST_BURST and flight > largest:
        return fails(f"{told}: RFC 5681 (3.2, step 6) permits half of that", segments)
    return passes(told, segments)


def _has_sack(party: Party, turn: Turn) -> bool:
    return not turn.own and bool(party.analysis.marks[turn.row] & SegmentMark.SACKS)


def _largest_flights(turns: Sequence[Turn]) -> list[int]:
    """The most bytes that were in flight at once before each turn."""
    acked = sent = largest = 0
    found = []
    for turn in turns:
        found.append(largest)
        if turn.own:
            sent = max(sent, turn.end)
            if acked and turn.length:
                largest = max(largest, sent - acked)
        elif turn.ack is not None:
            acked = max(acked, turn.ack)
    return found
