"""What an endpoint sends before any of its data is acknowledged."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.conformance.party import Party, Turn
from testbed.wire.flags import SYN

_PROBE = 1.5  # round trips of quiet; a tail loss probe comes after two (RFC 8985, 7.2)
_PROMPT = 0.02  # s, beside the way to the sender: data that waited for the ACK comes within


@dataclass(frozen=True)
class InitialFlight:
    """turns: its segments. size: bytes of them, each counted once.

    mss: what the peer's SYN permits; named: in an option.
    limited: more data waited for the first ACK.
    """

    turns: tuple[Turn, ...]
    size: int
    mss: int
    named: bool
    limited: bool


def initial_flight(party: Party) -> InitialFlight | str:
    """The first flight, or why it cannot be told."""
    if not party.sent.isn_seen or party.mss is None:
        return "the capture does not have the beginning of the connection"
    if party.missing:
        return party.missing
    flight: list[Turn] = []
    end = 1
    for turn in party.turns:
        if turn.own:
            if turn.length and not turn.has(SYN) and turn.end > end:
                if not flight and turn.start > 1:
                    return "the capture does not have the first data"
                if turn.length > party.mss:
                    return "segments exceed the MSS that the peer's SYN permits, as far as it shows"
                flight.append(turn)
                end = turn.end
        elif flight and turn.ack is not None and turn.ack > flight[0].start:
            if _ends_in_a_probe(party, flight):
                del flight[-1]
            return InitialFlight(
                tuple(flight),
                sum(one.length for one in flight),
                party.mss,
                _names_mss(party),
                _goes_on(party, turn, end),
            )
    if not flight:
        return "the endpoint sent no data"
    answered = any(not turn.own and turn.row > flight[-1].row for turn in party.turns)
    if not answered:
        return "nothing of what the endpoint sent was acknowledged"
    return InitialFlight(
        tuple(flight), sum(one.length for one in flight), party.mss, _names_mss(party), False
    )


def _ends_in_a_probe(party: Party, flight: list[Turn]) -> bool:
    """Whether the last segment is one of new data beyond the window (RFC 8985 section 7.3)."""
    if len(flight) < 2 or not party.timed:
        return False
    return flight[-1].time - flight[-2].time > max(_PROBE * party.round_trip, _PROMPT)


def _names_mss(party: Party) -> bool:
    return any(
        turn.segment.options.mss is not None
        for turn in party.turns
        if not turn.own and turn.has(SYN)
    )


def _goes_on(party: Party, ack: Turn, end: int) -> bool:
    """Whether new data follows at once when the first ACK arrives."""
    leg = max(0, party.analysis.legs.to(party.side)) / 1e9
    for turn in party.turns:
        if turn.own and turn.row > ack.row and turn.length and turn.end > end:
            return turn.time - ack.time <= leg + _PROMPT
    return False
