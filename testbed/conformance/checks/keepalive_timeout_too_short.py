"""Keepalive time-out too short (RFC 2525 section 2.9): the connection is given up within seconds.

RFC 1122 section 4.2.3.6, RFC 9293 section 3.8.4: that one probe is not answered must not end a
connection. How long to go on is not said; for data it is at least 100 s (RFC 1122 section 4.2.3.5,
RFC 9293 section 3.8.3), which is the mark here.

What is looked at: unanswered probes at the end of a connection, and how long they had gone on when
it was reset, at the time of a next probe, or nothing more came. What ends it otherwise is an
application. An application may have asked for less: a failure is told only
where settings are known to be the default ones.
"""

from __future__ import annotations

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party
from testbed.conformance.probing import series_of_probes
from testbed.conformance.registry import check
from testbed.wire.flags import RST

_LEAST = 100.0  # s; R2 of RFC 1122 section 4.2.3.5
_LEAST_PROBES = 3  # in a trace that ends before the connection does
_LONGEST_PACE = 4.0  # s; nobody sends 25 probes, which would last for 100 s
_ON_TIME = 0.2  # of an interval


@check("keepalive-timeout-too-short", section="2.9")
def ask(party: Party) -> Ruling:
    if not party.timed:
        return undecided("the trace tells no times")
    series = [one for one in series_of_probes(party) if len(one[1]) > 1]
    if not series:
        return undecided("no two probes of keepalive in a row were left unanswered")
    _, probes, after = series[-1]
    if after is not None and not after.own:
        return undecided("the probes were answered at last", (turn.segment for turn in probes))
    pace = probes[-1].time - probes[-2].time
    reset = after is not None and after.has(RST)
    if after is not None:
        late = abs(after.time - probes[-1].time - pace)
        if not reset or late > _ON_TIME * pace:
            return undecided("an application ended it", [turn.segment for turn in probes])
    lasted = (after.time if after is not None else probes[-1].time + pace) - probes[0].time
    segments = [turn.segment for turn in probes]
    ending = "then the connection was reset" if reset else "then nothing more"
    told = (
        f"{len(probes)} probes without an answer, {pace:.1f} s apart, {ending} after {lasted:.0f} s"
    )
    if lasted >= _LEAST:
        return passes(told, segments)
    if not reset and (len(probes) < _LEAST_PROBES or pace > _LONGEST_PACE):
        return undecided("the trace ends while probes are being sent", segments)
    if party.missing:
        return undecided(party.missing, segments)
    if not party.known.default_settings:
        return undecided(
            f"{told}, unless an application asked for it (default settings?)", segments
        )
    return fails(f"{told}: RFC 1122 (4.2.3.5) goes on for at least 100 s with data", segments)
