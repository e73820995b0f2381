"""Retransmission sends multiple packets (RFC 2525 section 2.14).

RFC 1122 section 4.2.2.15, RFC 2001, RFC 5681 section 3: a time-out or the third duplicate ACK sends
one segment again. With SACK more may follow at once (RFC 6675, 6937), but no piece of one.

What is looked at: what is sent with the first retransmission of each loss, before anything comes
from the peer: after a time-out a second segment of old data; at any time a small one that continues
the first and stops short of where the segment that was sent before ended. A first one with more
options than when it was sent before has less room, and says nothing.
"""

from __future__ import annotations

from bisect import bisect_left

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.registry import check
from testbed.trace.analysis import SENT_AGAIN, Needless, RepeatReason, SegmentClass
from testbed.wire.flags import FIN, SYN

_TOLD = (RepeatReason.TIMEOUT, RepeatReason.FAST)
_AT_ONCE = 0.005  # s
_OPTIONS = 40  # bytes; most that a miscounted header can be off


@check("multiple-packet-retransmission", section="2.14")
def ask(party: Party) -> Ruling:
    rows = [turn.row for turn in party.turns]
    good: Ruling | None = None
    recover = 0
    for repeat in party.analysis.repeats_of(party.side):
        at = bisect_left(rows, repeat.row)
        first = party.turns[at]
        begins = first.start >= recover or repeat.timer
        if repeat.reason not in _TOLD or not first.length or not begins:
            continue
        if first.has(SYN) or repeat.needless is Needless.ACKNOWLEDGED:
            continue
        recover = max(recover, party.sent_until[at])
        following = _following(party, at, first)
        earlier = party.turns[bisect_left(rows, repeat.first)]
        if following and _options(first) <= _options(earlier):
            ruling = _judge(party, repeat.timer, first, following)
            if ruling is not None:
                return ruling
        elif not following:
            good = good or passes(
                f"one segment of {first.length:,} bytes was sent again, {repeat.reason.words}",
                (first.segment,),
            )
    return good or undecided("no segment was sent again alone, by time-out or fast retransmission")


def _following(party: Party, at: int, first: Turn) -> list[Turn]:
    """Old data that was sent at once after the first, before the peer spoke."""
    found = []
    for turn in party.turns_after(at):
        if not turn.own or turn.time - first.time > _AT_ONCE:
            break
        if turn.length and turn.kind in SENT_AGAIN:
            found.append(turn)
    return found


def _judge(party: Party, timer: bool, first: Turn, following: list[Turn]) -> Ruling | None:
    second = following[0]
    segments = [turn.segment for turn in (first, second)]
    if party.offloaded or party.missing:
        return undecided(party.offloaded or party.missing, segments)
    if second.start == first.end and 0 < second.length <= _OPTIONS and not second.has(FIN):
        whole = _original(party, second)
        if whole is not None and second.end < whole.end:
            return fails(
                f"{first.length:,} bytes were sent again, and at once {second.length} more of the "
                f"next segment, which had {whole.length:,}: RFC 5681 (3.2) sends one segment",
                (first.segment, second.segment, whole.segment),
            )
    if (
        timer
        and party.timed
        and second.start >= first.end
        and first.length + second.length > (party.largest)
    ):
        return fails(
            f"a time-out sent {1 + len(following)} segments again at once: RFC 5681 (3.1) lets the "
            "window be one",
            [first.segment, *(turn.segment for turn in following)],
        )
    return None


def _original(party: Party, again: Turn) -> Turn | None:
    """The segment that began there when it was new."""
    for turn in party.turns:
        if turn.own and turn.start == again.start and turn.kind is SegmentClass.NEW_DATA:
            return turn
    return None


def _options(turn: Turn) -> int:
    return turn.segment.header_length
