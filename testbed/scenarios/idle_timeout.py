"""A NAT that forgets silent connections, and keepalive as the cure.

NAT gateways of clouds forget a connection after minutes without a packet (350 s is one provider's
choice; here it is two seconds). Neither end is told. What goes on then comes to nothing, or gets
a reset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from testbed.scenarios.experiment import Experiment
from testbed.scenarios.observations import connection_in, keepalive_probes
from testbed.scenarios.registry import Judgement, Measurements, scenario
from testbed.topology.vary import with_function
from testbed.trace.segments import RST
from testbed.traffic import exchange_after_silence

CLIENT, NAT, SERVER = "client", "nat", "server"
FUNCTION = "nat"
ANSWERED, RESET, HANGS = "answered", "reset at once", "hangs until it gives up"

_SIZE = 100
_SECONDS_OF_KEEPALIVE = 1
_GIVE_UP = 1.5

OnTimeout = Literal["silent", "reset"]
Keepalive = Literal["off", "on"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """What the application got, and whether its request is in the capture beyond the NAT."""
    expected = {"silent": HANGS, "reset": RESET}[parameters["on_timeout"]]
    if parameters["keepalive"] == "on":
        expected = ANSWERED
    outcome = measured["outcome"]
    arrived = measured["bytes_arrived"] == 2 * _SIZE
    if outcome == "answered" and arrived:
        verdict = ANSWERED
    elif outcome == "reset" and not arrived and measured["resets"]:
        verdict = RESET
    elif outcome == "timed-out" and not arrived and measured["retransmissions"]:
        verdict = HANGS
    else:
        verdict = f"{outcome}, {measured['bytes_arrived']} bytes arrived"
    return Judgement(verdict, expected)


@scenario(
    "idle-timeout",
    topology="idle-timeout",
    grid={"on_timeout": ("silent", "reset"), "keepalive": ("off", "on")},
    judge=judge,
    columns={
        "on_timeout": "the NAT",
        "keepalive": "keepalive",
        "probes": "probes",
        "outcome_ms": "outcome after (ms)",
        "retransmissions": "retransmissions",
        "resets": "resets",
    },
    labels={"on_timeout": {"silent": "drops silently", "reset": "sends a reset"}},
)
def idle_timeout(
    experiment: Experiment,
    on_timeout: OnTimeout = "silent",
    keepalive: Keepalive = "off",
    silence: float = 3.0,
) -> Measurements:
    """A NAT forgets a connection that is silent for too long; keepalive is the cure.

    silence: seconds between two requests over one connection.
    """
    topology = with_function(experiment.topology, NAT, FUNCTION, on_timeout=on_timeout)
    with experiment.lab(topology) as lab:
        found = exchange_after_silence(
            lab[CLIENT],
            lab[SERVER],
            silence=silence,
            keepalive=_SECONDS_OF_KEEPALIVE if keepalive == "on" else None,
            give_up=_GIVE_UP,
            size=_SIZE,
        )
    inner, outer = (connection_in(experiment.captures[f"{node}:eth0"]) for node in (CLIENT, SERVER))
    return {
        "outcome": found.outcome,
        "outcome_ms": found.seconds * 1000,
        "probes": keepalive_probes(inner.by_initiator),
        "retransmissions": len(inner.by_initiator.retransmissions),
        "resets": sum(bool(one.flags & RST) for one in inner.by_responder.segments),
        "bytes_arrived": outer.by_initiator.unique_bytes,
    }
