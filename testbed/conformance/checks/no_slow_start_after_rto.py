"""No slow start after a retransmission time-out (RFC 2525 section 2.2).

RFC 1122 section 4.2.2.15, RFC 2001 and RFC 5681 section 3.1 (equation 4): after a time-out the
window is one segment, whatever the initial window, and slow start follows. Later RFCs let a sender
take the reduction back where the time-out was spurious (RFC 4015, 5682).

What is looked at: what is sent between the first ACK after the time-out that acknowledges new data
and the ACK after that. The window can have grown by one segment for each that was acknowledged
(RFC 3465; the older rule, one for each ACK, gives less), and two more are forgiven. Time-outs that
turn out spurious, or whose ACK comes sooner than a round trip, are left out.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.registry import check
from testbed.trace.analysis import Needless, Repeat, RepeatReason
from testbed.wire.flags import FIN, SYN

_FORGIVEN = 2  # segments
_EARLY = 0.9  # of a round trip; an ACK that is sooner is that of an earlier transmission


@check("no-slow-start-after-rto", section="2.2")
def ask(party: Party) -> Ruling:
    if not party.timed:
        return undecided("the trace tells no times")
    kept: Ruling | None = None
    acks = tuple(accumulate((0 if t.own else t.ack or 0 for t in party.turns), max))
    for repeat in party.analysis.repeats_of(party.side):
        if repeat.reason is not RepeatReason.TIMEOUT or not repeat.timer:
            continue
        ruling = _after(party, repeat, acks)
        if ruling is not None and ruling.answer == "fail":
            return undecided(party.missing, ruling.segments) if party.missing else ruling
        kept = kept or ruling
    return kept or undecided(
        "no data was sent after a retransmission time-out that was not spurious"
    )


def _after(party: Party, repeat: Repeat, acks: Sequence[int]) -> Ruling | None:
    """What followed one time-out; None where that says nothing.

    acks: the highest one up to each turn.
    """
    if repeat.needless is not Needless.NO:
        return None
    at = bisect_left(party.turns, repeat.row, key=lambda turn: turn.row)
    first = party.turns[at]
    if first.has(SYN) or first.has(FIN):
        return None
    for end in range(max(at, bisect_right(acks, first.start)), len(acks)):
        acked = party.turns[end]
        if not acked.own and (acked.ack or 0) > first.start:
            break
    else:
        return None
    others = sum(not turn.own for turn in party.turns[at:end])
    if acked.time < first.time + _EARLY * party.round_trip:
        return None
    size, new = max(party.largest, 1), (acked.ack or 0) - first.start
    allowed = 1 + -(-new // size) + others + _FORGIVEN
    burst = _until_the_next_ack(party, end)
    if not burst:
        return None
    sent = sum(turn.length for turn in burst) / size
    told = (
        f"{sent:.1f} full segments at the first ACK after a time-out, which acknowledges "
        f"{new:,} bytes"
    )
    segments = [turn.segment for turn in (first, acked, *burst)]
    if sent > allowed:
        return fails(f"{told}: slow start (RFC 5681, 3.1) permits {allowed - _FORGIVEN}", segments)
    return passes(told, segments)


def _until_the_next_ack(party: Party, at: int) -> list[Turn]:
    burst: list[Turn] = []
    for turn in party.turns_after(at):
        if not turn.own:
            if burst or turn.ack != party.turns[at].ack:
                break
        elif turn.length:
            burst.append(turn)
    return burst
