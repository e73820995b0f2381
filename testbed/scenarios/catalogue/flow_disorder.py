"""Overtaken and doubled segments, and what a sender makes of them when nothing is lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from testbed.scenarios import Experiment, Judgement, Measurements, scenario
from testbed.topology.vary import with_function_if, with_node
from testbed.trace import Connection
from testbed.trace.observations import connection_in
from testbed.traffic import transfer
from testbed.wire.sequence import difference

CLIENT, ROUTER, SERVER = "client", "router", "server"
FUNCTION = "flow-disorder"
CALM, FOOLED = "nothing repeated", "repeated for nothing"

_SIZE = 1_000_000

_DISORDERS: dict[str, dict[str, object]] = {
    "none": {},
    "overtaken by 1": {"action": "reorder", "every": 50, "behind": 1, "delay": 0.005},
    "overtaken by 10": {"action": "reorder", "every": 50, "behind": 10, "delay": 0.005},
    "sent twice": {"action": "duplicate", "every": 50},
}

Disorder = Literal["none", "overtaken by 1", "overtaken by 10", "sent twice"]
Sack = Literal[0, 1]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """By what the sender sent again, though everything had arrived."""
    verdict = FOOLED if measured["retransmissions"] else CALM
    ill = parameters["disorder"] == "overtaken by 10"
    return Judgement(verdict, FOOLED if ill else CALM)


@scenario(
    "flow-disorder",
    topology="flow-disorder",
    grid={"disorder": tuple(_DISORDERS)},
    extra=({"disorder": "overtaken by 10", "sack": 0},),
    judge=judge,
    columns={
        "disorder": "every 50th segment",
        "sack": "client's tcp_sack",
        "time_ms": "1 MB took (ms)",
        "retransmissions": "the client repeated",
        "duplicates": "reported as duplicates",
    },
)
def flow_disorder(
    experiment: Experiment, disorder: Disorder = "none", sack: Sack = 1
) -> Measurements:
    """Segments overtake each other or come twice; nothing is lost."""
    options = _DISORDERS[disorder]
    topology = with_function_if(bool(options), experiment.topology, ROUTER, FUNCTION, **options)
    topology = with_node(topology, CLIENT, sysctls={"net.ipv4.tcp_sack": str(sack)})
    with experiment.lab(topology) as lab:
        found = transfer(lab[CLIENT], lab[SERVER], _SIZE)
    connection = connection_in(experiment.captures[f"{CLIENT}:eth0"])
    return {
        "time_ms": found.last_byte * 1000,
        "retransmissions": len(connection.by_initiator.retransmissions()),
        "duplicates": _duplicates_reported(connection),
    }


def _duplicates_reported(connection: Connection) -> int:
    """Segments whose first SACK block is of data already acknowledged (RFC 2883)."""
    return sum(
        bool(segment.options.sack) and difference(segment.options.sack[0][1], segment.ack) <= 0
        for segment in connection.by_responder.segments
    )
