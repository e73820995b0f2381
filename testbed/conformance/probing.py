"""Probes of keepalive, and whether they were answered."""

from __future__ import annotations

from testbed.conformance.party import Party, Turn
from testbed.trace.analysis import SegmentClass


def series_of_probes(party: Party) -> list[tuple[float | None, list[Turn], Turn | None]]:
    """Each series of the endpoint's probes without an answer in between.

    With the seconds since something was received before the first (None: nothing was, in this
    capture), and what ended the series: any other segment. What asks a closed window is no probe
    of keepalive, whatever it sends.
    """
    found: list[tuple[float | None, list[Turn], Turn | None]] = []
    probes: list[Turn] = []
    silence: float | None = None
    heard: Turn | None = None
    window: int | None = None
    for turn in party.turns:
        if not turn.own:
            window = turn.window
        if turn.own and turn.kind is SegmentClass.KEEPALIVE and window != 0:
            if not probes:
                silence = None if heard is None else turn.time - heard.time
            probes.append(turn)
        elif probes:
            found.append((silence, probes, turn))
            probes = []
        if not turn.own:
            heard = turn
    if probes:
        found.append((silence, probes, None))
    return found
