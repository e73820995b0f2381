"""Acknowledgements that do not fit: a modem thins them out in front of a narrow way up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from testbed.scenarios import Experiment, Judgement, Measurements, scenario
from testbed.topology.vary import with_function_if
from testbed.trace.observations import connection_in, pure_acks
from testbed.traffic import transfer

CLIENT, ROUTER, SERVER = "client", "router", "server"
FUNCTION = "ack-thinner"

HELD_BACK, RELIEVED = "waits for acknowledgements", "way up relieved"

_SIZE = 1_000_000
_HELD_BACK_MS = 1700.0  # at full rate it takes 400, and some round trips to get there

Keep = Literal["all", "1/4", "1/16"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """By the acknowledgements on both sides of the box, and the clock."""
    keep = parameters["keep"]
    share = float(measured["acks_received"]) / float(measured["acks_sent"])
    if float(measured["time_ms"]) > _HELD_BACK_MS:
        verdict = HELD_BACK
    elif share > 0.5:
        verdict = "nothing thinned out"
    else:
        verdict = RELIEVED
    return Judgement(verdict, HELD_BACK if keep == "all" else RELIEVED)


@scenario(
    "ack-thinning",
    topology="ack-thinning",
    grid={"keep": ("all", "1/4", "1/16")},
    judge=judge,
    columns={
        "keep": "acknowledgements kept",
        "time_ms": "1 MB took (ms)",
        "acks_sent": "ACKs before the box",
        "acks_received": "ACKs at the sender",
        "bytes_per_ack": "bytes per ACK",
    },
)
def ack_thinning(experiment: Experiment, keep: Keep = "1/4") -> Measurements:
    """A modem thins acknowledgements out in front of a narrow way up."""
    topology = with_function_if(keep != "all", experiment.topology, ROUTER, FUNCTION, keep=keep)
    with experiment.lab(topology) as lab:
        found = transfer(lab[CLIENT], lab[SERVER], _SIZE, direction="download")
    before = connection_in(experiment.captures[f"{CLIENT}:eth0"]).by_initiator
    after = connection_in(experiment.captures[f"{SERVER}:eth0"]).by_initiator
    sent, received = len(pure_acks(before)), len(pure_acks(after))
    return {
        "time_ms": found.last_byte * 1000,
        "acks_sent": sent,
        "acks_received": received,
        "bytes_per_ack": _SIZE / max(received, 1),
    }
