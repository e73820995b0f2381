"""Uninitialized CWND (RFC 2525 section 2.3): no slow start where the peer's SYN names no MSS.

A TCP that has slow start, but sets its window by the peer's MSS option, has none without that
option. Without it the MSS is 536 bytes (RFC 1122 section 4.2.2.6), and 1,220 for IPv6 (RFC 9293
section 3.7.1).

What is looked at: as for no-initial-slow-start, in connections of which the peer named no MSS.
"""

from __future__ import annotations

from testbed.conformance.checks.no_initial_slow_start import judge
from testbed.conformance.finding import Ruling, undecided
from testbed.conformance.initial_flight import initial_flight
from testbed.conformance.party import Party
from testbed.conformance.registry import check


@check("uninitialized-cwnd", section="2.3")
def ask(party: Party) -> Ruling:
    flight = initial_flight(party)
    if isinstance(flight, str):
        return undecided(flight)
    if flight.named:
        return undecided("the peer named an MSS, so that nothing was missing for the first window")
    return judge(party, flight)
