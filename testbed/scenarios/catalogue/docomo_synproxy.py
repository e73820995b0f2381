"""The two clients of the scenario docomo, behind what Linux itself offers: its SYNPROXY.

The kernel's proxy answers a SYN with a cookie and a window of 0, so that no data can ride on the
third segment of the handshake and none has to be dropped (net/netfilter/nf_synproxy_core.c). A
client that wanted to send its request with that segment delays it, in vain, and the proxy does not
call the server before it has come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from testbed.scenarios import Experiment, Judgement, Measurements, scenario
from testbed.topology.vary import with_node
from testbed.trace import Connection
from testbed.trace.observations import connection_in
from testbed.traffic import Responder, exchange
from testbed.wire.flags import ACK, SYN

GATEWAY, ROUTER, SERVER = "gateway", "router", "server"
ON_TIME, ONE_ROUND_TRIP, DELAYED = (
    "on time",
    "one round trip late",
    "late by its own delayed ACK",
)

_REQUEST_BYTES, _RESPONSE_BYTES = 400, 1000

Synproxy = Literal["on", "off"]
Handshake = Literal["data", "bare"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """By how much later than a round trip the response is, and what the third segment was."""
    late, round_trip = float(measured["late_ms"]), float(measured["round_trip_ms"])
    data = parameters["handshake"] == "data"
    answered = parameters["synproxy"] == "on"
    waited = float(measured["third_after_ms"])
    if bool(measured["third_carries"]) != (data and not answered):
        verdict = f"{measured['third_carries']} bytes on the third segment"
    elif bool(measured["answer_window"]) == answered:
        verdict = f"a window of {measured['answer_window']} in the SYN/ACK"
    elif waited > 150:  # Linux delays it for 200 ms (TCP_DELACK_MAX)
        verdict = DELAYED if 150 + round_trip < late < 600 else f"{late:.0f} ms late"
    elif late < 0.7 * round_trip:
        verdict = ON_TIME
    else:
        verdict = ONE_ROUND_TRIP if late < 5 * round_trip else f"{late:.0f} ms late"
    if not answered:
        return Judgement(verdict, ON_TIME)
    return Judgement(verdict, DELAYED if data else ONE_ROUND_TRIP)


@scenario(
    "docomo-synproxy",
    topology="docomo-synproxy",
    grid={"synproxy": ("on", "off"), "handshake": ("data", "bare")},
    repeat=3,
    judge=judge,
    columns={
        "synproxy": "SYNPROXY of the kernel",
        "handshake": "client",
        "answer_window": "window of the SYN/ACK",
        "third_after_ms": "third segment after (ms)",
        "third_carries": "its payload",
        "request_to_response_ms": "request to response (ms)",
    },
    labels={
        "handshake": {
            "data": "wants to send with the ACK",
            "bare": "acknowledges at once",
        }
    },
)
def docomo_synproxy(
    experiment: Experiment, synproxy: Synproxy = "on", handshake: Handshake = "data"
) -> Measurements:
    """What the kernel's own SYNPROXY does to the two clients of docomo."""
    topology = experiment.topology
    if synproxy == "off":
        topology = with_node(topology, ROUTER, kernel=None)
    round_trip = topology.round_trip
    with (
        experiment.lab(topology) as lab,
        Responder(lab[SERVER], request=_REQUEST_BYTES, response=_RESPONSE_BYTES) as responder,
    ):
        found = exchange(lab[GATEWAY], responder, handshake_data=handshake == "data")
    return {
        "request_to_response_ms": found.last_byte * 1000,
        "late_ms": (found.last_byte - round_trip) * 1000,
        "round_trip_ms": round_trip * 1000,
        "retransmissions": found.retransmissions,
        **_handshake(connection_in(experiment.captures[f"{GATEWAY}:eth0"])),
    }


def _handshake(connection: Connection) -> Measurements:
    """The SYN/ACK as the client gets it, and what the client does then."""
    answer = next(one for one in connection.segments if one.flags & (SYN | ACK) == SYN | ACK)
    third = next(
        one
        for one in connection.segments
        if connection.is_outward(one) and one.flags & (SYN | ACK) == ACK
    )
    return {
        "answer_window": answer.window,
        "third_after_ms": (third.time - answer.time) / 1e6,
        "third_carries": third.length,
    }
