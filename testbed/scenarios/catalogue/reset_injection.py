"""Resets from a third party: how well they must be aimed (RFC 5961).

The box strikes when the request comes by. The response is 40 ms away, so whatever the client
sends between the reset and the response is its answer to the reset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from testbed.errors import LabError
from testbed.lab import Lab
from testbed.scenarios import Experiment, Judgement, Measurements, scenario
from testbed.topology.vary import with_function_if
from testbed.trace import Connection
from testbed.trace.observations import connection_in
from testbed.traffic import Responder, exchange
from testbed.wire.flags import RST

CLIENT, ROUTER, SERVER = "client", "router", "server"
FUNCTION = "reset-injector"
ENDED, ASKED_BACK, IGNORED, NONE = "connection ended", "asked back", "ignored", "no reset"

_EXPECTED = {
    "none": NONE,
    "exact": ENDED,
    "in-window": ASKED_BACK,
    "outside-window": IGNORED,
}

Reset = Literal["none", "exact", "in-window", "outside-window"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """By what became of the request, and what the client sent in answer to the reset."""
    if measured["outcome"] != "answered":
        verdict = ENDED if measured["outcome"] == "reset" else str(measured["outcome"])
    elif not measured["resets"]:
        verdict = NONE
    else:
        verdict = ASKED_BACK if measured["challenges"] else IGNORED
    return Judgement(verdict, _EXPECTED[parameters["reset"]])


@scenario(
    "reset-injection",
    topology="reset-injection",
    grid={"reset": tuple(_EXPECTED)},
    judge=judge,
    columns={
        "reset": "sequence number of the reset",
        "resets": "resets at the client",
        "challenges": "challenge ACKs",
        "outcome": "request",
    },
    labels={
        "reset": {
            "none": "no injector",
            "exact": "exactly the next",
            "in-window": "within the window",
            "outside-window": "outside",
        }
    },
)
def reset_injection(experiment: Experiment, reset: Reset = "exact") -> Measurements:
    """A box sends resets in the name of both ends: which ones do they believe?"""
    injects = reset != "none"
    topology = with_function_if(injects, experiment.topology, ROUTER, FUNCTION, sequence=reset)
    with experiment.lab(topology) as lab:
        outcome = _ask(lab)
    resets, challenges = _answers(connection_in(experiment.captures[f"{CLIENT}:eth0"]))
    return {"resets": resets, "challenges": challenges, "outcome": outcome}


def _ask(lab: Lab) -> str:
    try:
        with Responder(lab[SERVER]) as responder:
            exchange(lab[CLIENT], responder, timeout=5.0)
    except LabError as error:
        return "reset" if isinstance(error.__cause__, ConnectionResetError) else "failed"
    return "answered"


def _answers(connection: Connection) -> tuple[int, int]:
    """Resets that reached the client, and those after which it was the next to send."""
    resets = challenges = 0
    after_reset = False
    for segment in connection.segments:
        ours = connection.is_outward(segment)
        if not ours and segment.flags & RST:
            resets += 1
        challenges += ours and after_reset and not segment.flags & RST
        after_reset = not ours and bool(segment.flags & RST)
    return resets, challenges
