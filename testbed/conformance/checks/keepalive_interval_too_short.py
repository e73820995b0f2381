"""Insufficient interval between keepalives (RFC 2525 section 2.11): probes sooner than two hours.

RFC 1122 section 4.2.3.6, RFC 9293 section 3.8.4: the interval must be configurable, and no less
than two hours by default.

What is looked at: how long nothing had been received before each probe, or before the first of
several that are not answered; what the endpoint itself sends does not put probes off. An
application may have asked for less: a failure is told only where settings are known to be the
default ones.
"""

from __future__ import annotations

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.party import Party
from testbed.conformance.probing import series_of_probes
from testbed.conformance.registry import check

_LEAST = 7200.0  # s
_TIMER_ERROR = 0.99


@check("keepalive-interval-too-short", section="2.11")
def ask(party: Party) -> Ruling:
    if not party.timed:
        return undecided("the trace tells no times")
    series = [(one[0], one[1]) for one in series_of_probes(party) if one[0] is not None]
    if not series:
        return undecided("no probe of keepalive was sent, or none after something was received")
    silence, probes = min(series, key=lambda one: one[0])
    told = f"a probe of keepalive after {_words(silence)} of silence"
    segments = [probes[0].segment]
    if silence >= _TIMER_ERROR * _LEAST:
        return passes(told, segments)
    if party.missing:
        return undecided(party.missing, segments)
    if party.at_peer:
        return undecided(f"{told}, as seen at the peer, of which something may be lost", segments)
    if not party.known.default_settings:
        return undecided(
            f"{told}, unless an application asked for it (default settings?)", segments
        )
    return fails(f"{told}: RFC 9293 (3.8.4) asks for two hours by default", segments)


def _words(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.1f} min"
