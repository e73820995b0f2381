"""A splitting accelerator in front of a satellite: who acknowledges, and how fast it gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from testbed.scenarios import Experiment, Judgement, Measurements, scenario
from testbed.topology.vary import with_function_if, with_link
from testbed.trace import Connection
from testbed.trace.observations import connection_in
from testbed.traffic import transfer
from testbed.wire.sequence import difference

SERVER, ROUTER, CLIENT = "server", "router", "client"
FUNCTION = "pep"
BY_BOX, BY_CLIENT = "acknowledged by the box", "acknowledged by the client"

_SIZE = 500_000
_FAR_MS = 400.0  # the client's acknowledgements take 520 to come back, the box's 20

Accelerator = Literal["off", "on"]
Loss = Literal["none", "1%"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """By the time from the first data to its acknowledgement, at the server."""
    far = float(measured["acknowledged_ms"]) > _FAR_MS
    expected = BY_BOX if parameters["accelerator"] == "on" else BY_CLIENT
    return Judgement(BY_CLIENT if far else BY_BOX, expected)


@scenario(
    "pep",
    topology="pep",
    grid={"accelerator": ("off", "on"), "loss": ("none", "1%")},
    judge=judge,
    columns={
        "accelerator": "accelerator",
        "loss": "loss on the satellite",
        "time_ms": "500 kB took (ms)",
        "acknowledged_ms": "first data acknowledged after (ms)",
        "retransmissions": "the server repeated",
        "repaired": "the box repeated",
    },
)
def pep(
    experiment: Experiment, accelerator: Accelerator = "on", loss: Loss = "none"
) -> Measurements:
    """A download over a satellite, with and without a splitting accelerator in front of it."""
    topology = with_function_if(accelerator == "on", experiment.topology, ROUTER, FUNCTION)
    lost = 0.01 if loss == "1%" else 0.0
    topology = with_link(topology, ROUTER, CLIENT, direction="forward", loss=lost)
    with experiment.lab(topology) as lab:
        found = transfer(lab[CLIENT], lab[SERVER], _SIZE, direction="download")
        repaired = 0
        if accelerator == "on":
            repaired = lab[ROUTER].function(FUNCTION).counters().get("repeated", 0)
    near = connection_in(experiment.captures[f"{SERVER}:eth0"])
    return {
        "time_ms": found.last_byte * 1000,
        "acknowledged_ms": _acknowledged_ms(near),
        "retransmissions": len(near.by_responder.retransmissions()),
        "repaired": repaired,
    }


def _acknowledged_ms(connection: Connection) -> float:
    """From the server's first data to the first acknowledgement of any of it."""
    data = next(segment for segment in connection.by_responder.segments if segment.length)
    for segment in connection.by_initiator.segments:
        if segment.number > data.number and difference(segment.ack, data.seq) > 0:
            return (segment.time - data.time) / 1e6
    return 0.0
