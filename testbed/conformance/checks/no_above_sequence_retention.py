"""Failure to retain above-sequence data (RFC 2525 section 2.5).

RFC 1122 section 4.2.2.20 and RFC 9293 section 3.10.7.4: segments beyond a hole should be kept, and
acknowledged with what fills it. Since RFC 2018, SACK tells which are; the receiver may still
discard them (section 8), so that this is about receivers that always do.

What is looked at: the first ACK after a hole was filled, where at least three segments beyond had
come before. One hole after which they are acknowledged at once is enough to pass, wherever the
capture was taken. Only a capture at the receiver tells that they had arrived.
"""

from __future__ import annotations

from heapq import heappop, heappush

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.registry import check
from testbed.trace.analysis import SegmentClass
from testbed.trace.ranges import Ranges
from testbed.wire.flags import RST, SYN

_LEAST_BEYOND = 3  # segments


@check("no-above-sequence-retention", section="2.5")
def ask(party: Party) -> Ruling:
    discarded: list[tuple[Turn, Turn, int]] = []
    for fill, ack, beyond, reach in _filled_holes(party):
        assert ack.ack is not None
        if ack.ack > fill.end and ack.ack >= reach:
            return passes(
                f"{beyond} segments beyond a hole were acknowledged when it was filled",
                (fill.segment, ack.segment),
            )
        if ack.ack <= fill.end < reach and beyond >= _LEAST_BEYOND:
            discarded.append((fill, ack, beyond))
    if not discarded:
        return undecided("no hole was filled behind which enough data had come")
    fill, ack, number = discarded[0]
    segments = fill.segment, ack.segment
    if not party.at_party:
        return undecided(
            f"{number} segments beyond a hole were not acknowledged, but may have been lost after "
            "they were captured: that was not at the receiver, or nothing tells where it was",
            segments,
        )
    if party.missing:
        return undecided(party.missing, segments)
    return fails(
        f"{number} segments beyond a hole had arrived, and the ACK of what filled it acknowledges "
        "none of them (RFC 9293, 3.10.7.4)",
        segments,
    )


def _filled_holes(party: Party) -> list[tuple[Turn, Turn, int, int]]:
    """What filled a hole, the next ACK of new data, how much had come beyond, up to where.

    That is, what an ACK that comes after has to reach: no further than the last that came.
    """
    found = []
    arrived = Ranges()
    beyond: list[int] = []  # a heap of where they begin
    latest = 0
    acked = 0
    fill: Turn | None = None
    for turn in party.turns:
        if turn.has(RST) or turn.kind is SegmentClass.OUT_OF_WINDOW:
            continue
        if turn.own:
            if turn.ack is None or turn.ack <= acked:
                continue
            if fill is not None and turn.ack > fill.start:
                reach = min(_reach(arrived, fill.end), latest)
                found.append((fill, turn, len(beyond), reach))
                fill = None
            acked = turn.ack
            while beyond and beyond[0] <= acked:
                heappop(beyond)
        elif turn.length and not turn.has(SYN) and turn.segment.checksum_holds is not False:
            if turn.start > acked and not arrived.covers(acked, turn.start) and acked:
                heappush(beyond, turn.start)
                latest = turn.end
            elif turn.start <= acked < turn.end and beyond and fill is None:
                fill = turn
            arrived.add(turn.start, turn.end)
    return found


def _reach(arrived: Ranges, start: int) -> int:
    """How far all has arrived from `start` on."""
    low, high = start, arrived.end or start
    while low < high:
        middle = (low + high + 1) // 2
        if arrived.covers(start, middle):
            low = middle
        else:
            high = middle - 1
    return low
