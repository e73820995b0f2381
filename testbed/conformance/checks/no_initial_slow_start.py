"""No initial slow start (RFC 2525 section 2.1): more than the initial window before the first ACK.

RFC 1122 section 4.2.2.15 and RFC 2001 let a connection begin with one segment. RFC 5681 section 3.1
has made it 2 to 4, RFC 6928 section 2 ten of them, at most 14,600 bytes (or two segments).

What is looked at: the data that is seen before the first ACK of data. It was sent before that ACK
arrived, wherever the capture was taken; what was lost before makes it less.
"""

from __future__ import annotations

from testbed.conformance.finding import Ruling, fails, passes, undecided
from testbed.conformance.initial_flight import InitialFlight, initial_flight
from testbed.conformance.party import Party
from testbed.conformance.registry import check


@check("no-initial-slow-start", section="2.1")
def ask(party: Party) -> Ruling:
    flight = initial_flight(party)
    if isinstance(flight, str):
        return undecided(flight)
    return judge(party, flight)


def judge(party: Party, flight: InitialFlight) -> Ruling:
    """Whether the flight is one of slow start."""
    allowed = party.profile.initial_window(flight.mss)
    segments = [turn.segment for turn in flight.turns]
    told = f"{flight.size:,} bytes in {len(segments)} segments before the first ACK of data"
    rule = f"{party.profile.initial_window_source} permits {allowed:,} at an MSS of {flight.mss:,}"
    if flight.size > allowed:
        return fails(f"{told}: {rule}", segments)
    if not flight.limited:
        return undecided(f"{told}: the sender had no more to send")
    return passes(f"{told}: {rule}", segments)
