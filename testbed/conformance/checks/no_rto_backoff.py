"""No RTO backoff (RFC 2525 section 2.10): time-outs in a row come at equal intervals.

RFC 1122 section 4.2.3.1 and RFC 6298 section 5.5 ask for each to be twice the one before; RFC 6298
section 2.5 lets a limit of 60 s or more end the doubling.

What is looked at: the same data sent again and again while the peer says nothing. What a capture
misses of them makes the first interval longer than it was: of three intervals the third is twice
the first or more for all TCPs that double, a tail loss probe (RFC 8985) in the first place and
lost packets before the capture included. So one and a half times is the mark. Elsewhere than at the
sender, what comes close together may have waited in a queue, and tells nothing of timers. A segment
that became smaller was told to (RFC 1191 section 6.3), and begins anew.

Retransmissions of SYNs are not looked at: Linux sends the first five a second apart since 6.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party, Turn
from testbed.conformance.registry import check
from testbed.trace.analysis import SegmentClass
from testbed.wire.flags import RST, SYN

_LEAST_GROWTH = 1.5  # of the third interval over the first
_LEAST_LIMIT = 60.0  # s; RFC 6298 section 2.5
_LEAST_APART = 0.1  # s; packets that a queue has held back come closer
_TIMER_ERROR = 0.9  # a second of a slow timer, in a minute


@check("no-rto-backoff", section="2.10")
def ask(party: Party) -> Ruling:
    doubled: tuple[list[Turn], list[float]] | None = None
    for run in _runs(party):
        gaps = [later.time - sooner.time for sooner, later in pairwise(run)]
        for first, third, at in zip(gaps, gaps[2:], range(len(gaps)), strict=False):
            together = min(gaps[at : at + 3]) < _LEAST_APART and not party.at_party
            limit = min(_LEAST_GROWTH * first, _TIMER_ERROR * _LEAST_LIMIT)
            if third < limit and not together:
                if party.missing:
                    return undecided(party.missing, (turn.segment for turn in run[at : at + 4]))
                return fails(
                    f"3 retransmissions in a row after {_seconds(gaps[at : at + 3])}: RFC 6298 "
                    f"(5.5) asks for at least {4 * first:.2f} s before the third",
                    (turn.segment for turn in run[at : at + 4]),
                )
        if any(later >= _LEAST_GROWTH * sooner for sooner, later in pairwise(gaps)):
            doubled = doubled or (run, gaps)
    if doubled is not None:
        run, gaps = doubled
        return passes(
            f"{len(gaps)} retransmissions in a row, after {_seconds(gaps)}",
            (turn.segment for turn in run),
        )
    return undecided("no data was sent again often enough while the peer was silent")


def _runs(party: Party) -> Iterator[list[Turn]]:
    """The transmissions of the same data with nothing from the peer in between."""
    run: list[Turn] = []
    window: int | None = None
    for turn in party.turns:
        if not turn.own:
            window = turn.window
            following = []
        elif not _is_data(turn) or window == 0:
            continue
        else:
            following = [turn]
        again = following and run and turn.start == run[0].start
        if again and turn.length >= run[-1].length:
            run += following
            continue
        if len(run) > 2:
            yield run
        run = following
    if len(run) > 2:
        yield run


def _is_data(turn: Turn) -> bool:
    """Whether a time-out may have sent it: data, and no probe."""
    probe = turn.kind in (SegmentClass.KEEPALIVE, SegmentClass.WINDOW_PROBE)
    return bool(turn.length) and not probe and not turn.segment.flags & (SYN | RST)


def _seconds(gaps: list[float]) -> str:
    return ", ".join(f"{gap:.2f}" for gap in gaps) + " s"
