"""Extra additive constant in congestion avoidance (RFC 2525 section 2.6).

RFC 2001, RFC 5681 section 3.1 (equation 3): in congestion avoidance the window grows by about one
segment a round trip. Some TCPs added an eighth of a segment for each ACK besides. Other congestion
controls grow faster than RFC 5681 on purpose (RFC 9438 and others), so that fast growth alone says
nothing today.

What is looked at: how many ACKs lie between two growths of what is in flight, while nothing is
lost. With the constant they are 1 / (1/8 + 1/W) for a window of W segments, however the window
grows. Under `rfc2525`, one interval with less than 0.6 of a window acknowledged tells, if all that
was sent in it is full-sized and within the offered window: else what is in flight grows with that
window, or with what there is to send. Under
`modern` 30 growths in a row must be at the pace of the constant, each third of them too: the pace
of other congestion controls changes meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import msgspec

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.profile import RFC2525
from testbed.conformance.registry import check
from testbed.trace.analysis import SENT_AGAIN, SegmentClass, SegmentMark

_SMALLEST_WINDOW = 20.0  # segments; in smaller ones the paces are too near to one another
_MOST_ACKED = 0.6  # of a window, between two growths
_SLOW_START = 2.5  # ACKs between growths below which it is no congestion avoidance
_GROWTHS = 30
_TOLERANCE = 0.12
_DISTURBED = (*SENT_AGAIN, SegmentClass.DUPLICATE_ACK)


class _Growth(msgspec.Struct, frozen=True, eq=False):
    """ack: the one at which more was sent. number: of that ACK in its run. window: in segments."""

    ack: Turn
    number: int
    window: float


class _Run(msgspec.Struct, eq=False):
    """ACKs without loss in between. acked: segments that they acknowledge; window: the largest.

    held_back: numbers of ACKs after which something else than the congestion window was the limit.
    """

    growths: list[_Growth]
    acks: int = 0
    acked: float = 0.0
    window: float = 0.0
    held_back: set[int] = msgspec.field(default_factory=set)


@check("extra-additive-constant", section="2.6")
def ask(party: Party) -> Ruling:
    if party.at_peer:
        return undecided("the capture was taken at the receiver: what is in flight does not show")
    if party.missing or party.offloaded:
        return undecided(party.missing or party.offloaded)
    strict = party.profile.name == RFC2525.name
    good: Ruling | None = None
    for run in _runs(party):
        ruling = _by_rfc2001(run, party.largest) if strict else _by_pace(run)
        if ruling is not None:
            return ruling
        if run.window >= _SMALLEST_WINDOW and run.acked >= run.window * (len(run.growths) + 1) / 2:
            good = good or passes(
                f"the window of {run.window:.0f} segments grew {len(run.growths)} times while "
                f"{run.acked:.0f} were acknowledged",
                (growth.ack.segment for growth in run.growths),
            )
    return good or undecided("no window of 20 segments or more was acknowledged without loss")


def _by_rfc2001(run: _Run, size: int) -> Ruling | None:
    for one, other in pairwise(run.growths):
        acks = other.number - one.number
        acked = ((other.ack.ack or 0) - (one.ack.ack or 0)) / size
        in_avoidance = other.window >= _SMALLEST_WINDOW and acks > _SLOW_START
        free = run.held_back.isdisjoint(range(one.number - 1, other.number + 2))
        if in_avoidance and free and acked < _MOST_ACKED * other.window:
            return fails(
                f"the window of {one.window:.0f} segments grew {acks} ACKs after it had grown "
                f"before, when {acked:.0f} segments were acknowledged: congestion avoidance "
                f"(RFC 2001) waits for about {one.window:.0f}",
                (one.ack.segment, other.ack.segment),
            )
    return None


def _by_pace(run: _Run) -> Ruling | None:
    """Whether the growths come at the pace of an eighth for each ACK, all along."""
    large = [growth for growth in run.growths if growth.window >= _SMALLEST_WINDOW]
    for at in range(len(large) - _GROWTHS):
        part = large[at : at + _GROWTHS + 1]
        third = _GROWTHS // 3
        if all(_at_the_pace(part[n * third : (n + 1) * third + 1]) for n in range(3)):
            acks = part[-1].number - part[0].number
            return fails(
                f"the window grew from {part[0].window:.0f} to {part[-1].window:.0f} segments in "
                f"{acks} ACKs, as if each added an eighth of a segment beside what RFC 5681 (3.1) "
                "says",
                (part[0].ack.segment, part[-1].ack.segment),
            )
    return None


def _at_the_pace(growths: list[_Growth]) -> bool:
    expected = sum(1 / (1 / 8 + 1 / growth.window) for growth in growths[:-1])
    seen = growths[-1].number - growths[0].number
    return abs(seen - expected) <= _TOLERANCE * expected


def _runs(party: Party) -> Iterator[_Run]:
    """What is in flight after each ACK has been answered, until something is lost or held back."""
    size = max(party.largest, 1)
    run = _Run([])
    sent, ack = 0, None
    for turn in party.turns:
        if turn.kind in _DISTURBED:
            yield run
            run, ack = _Run([]), None
        if turn.own:
            sent = max(sent, turn.end)
            full = party.analysis.marks[turn.row] & SegmentMark.WINDOW_FULL
            if turn.length and (turn.length < size or full):
                run.held_back.add(run.acks)
        elif turn.ack is not None:
            if ack is not None and ack.ack is not None and turn.ack > ack.ack:
                window = (sent - ack.ack) / size
                if window < run.window - 1.5:
                    yield run
                    run = _Run([])
                elif window > run.window + 0.5:
                    if run.window:
                        run.growths.append(_Growth(ack, run.acks, window))
                    run.window = window
                run.acks += 1
                run.acked += (turn.ack - ack.ack) / size
            if ack is None or ack.ack is None or turn.ack > ack.ack:
                ack = turn
    yield run
