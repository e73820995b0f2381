"""Inconsistent retransmission (RFC 2525 section 2.4): other bytes for the same sequence numbers.

RFC 793 section 1.5, RFC 9293 section 2.2: TCP delivers the bytes that the application sent.

What is looked at: the payload of all that was sent again, against what was sent first, where both
are in the capture in full, their checksums are right, and they have come as many hops: otherwise
they may be of two hosts. A RST may carry words (RFC 1122 section 4.2.2.12), a probe of keepalive
any byte (RFC 9293 section 3.8.4).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.registry import check
from testbed.trace.analysis import SegmentClass
from testbed.wire.flags import SYN

_NO_DATA = (SegmentClass.KEEPALIVE, SegmentClass.RESET, SegmentClass.OUT_OF_WINDOW)


@check("inconsistent-retransmission", section="2.4")
def ask(party: Party) -> Ruling:
    seen: list[Turn] = []  # as sent first, in the order of where they begin
    end = 0
    same: tuple[Turn, Turn] | None = None
    doubt = "no data was sent twice"
    for turn in party.turns:
        if not turn.own or not turn.length or turn.kind in _NO_DATA:
            continue
        if turn.start < end:
            for first in _overlapping(seen, turn):
                differs = _first_difference(first, turn)
                if differs is None:
                    doubt = "what was sent twice is not in the capture in full"
                elif differs < 0:
                    same = same or (first, turn)
                elif not (first.segment.checksum_holds and turn.segment.checksum_holds):
                    doubt = "bytes differ in segments of which the checksums are not right"
                elif first.segment.hops_left != turn.segment.hops_left:
                    doubt = "bytes differ in segments that came other ways, perhaps of two hosts"
                else:
                    return fails(
                        f"byte {differs:,} was sent as {_byte(first, differs):#04x} and then as "
                        f"{_byte(turn, differs):#04x}, both with a right checksum",
                        (first.segment, turn.segment),
                    )
        if turn.end > end or turn.kind in (SegmentClass.FILLS_HOLE, SegmentClass.REORDERED):
            insort(seen, turn, key=_start)
        end = max(end, turn.end)
    if same is not None:
        return passes("what was sent twice was the same", (turn.segment for turn in same))
    return undecided(doubt)


def _overlapping(seen: list[Turn], turn: Turn) -> list[Turn]:
    """The segments with bytes of this one."""
    first = bisect_right(seen, turn.start, key=_start)
    while first and seen[first - 1].end > turn.start:
        first -= 1
    behind = bisect_left(seen, turn.end, key=_start)
    return [one for one in seen[first:behind] if one.end > turn.start]


def _start(turn: Turn) -> int:
    return turn.start


def _payload_start(turn: Turn) -> int:
    return turn.start + turn.has(SYN)


def _first_difference(first: Turn, again: Turn) -> int | None:
    """The sequence number of the first other byte; -1: none differs; None: bytes are missing."""
    for turn in (first, again):
        if turn.segment.captured < turn.length:
            return None
    low = max(_payload_start(first), _payload_start(again))
    high = min(_payload_start(first) + first.length, _payload_start(again) + again.length)
    one = first.segment.payload[low - _payload_start(first) :][: high - low]
    other = again.segment.payload[low - _payload_start(again) :][: high - low]
    if one == other:
        return -1
    return low + next(
        at for at, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]
    )


def _byte(turn: Turn, position: int) -> int:
    return turn.segment.payload[position - _payload_start(turn)]
