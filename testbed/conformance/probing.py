"""Probes of keepalive, and whether they were answered."""

from __future__ import annotations

from testbed.conformance.party import Party, Turn
from testbed.trace.analysis import SegmentClass


def series_of_probes(party: Party) -> list[tuple[float, list[Turn], Turn | None]]:
    """Each series of the endpoint's probes without an answer in between.

    With the seconds of silence before the first, and what ended the series: any other segment. What
    asks a closed window is no probe of keepalive, whatever it sends.
    """
    found: list[tuple[float, list[Turn], Turn | None]] = []
    probes: list[Turn] = []
    silence, last = 0.0, None
    window: int | None = None
    for turn in party.turns:
        if not turn.own:
            window = turn.window
        if turn.own and turn.kind is SegmentClass.KEEPALIVE and window != 0:
            if not probes:
                silence = 0.0 if last is None else turn.time - last
            probes.append(turn)
        elif probes:
            found.append((silence, probes, turn))
            probes = []
        last = turn.time
    if probes:
        found.append((silence, probes, None))
    return found
