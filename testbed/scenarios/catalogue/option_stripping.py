"""What each TCP option is good for, seen when a middlebox takes it away.

One upload of a megabyte, round trip 50 ms, of which some segments in one window are lost, each
with a survivor between it and the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from testbed.scenarios import Experiment, Judgement, Measurements, scenario
from testbed.topology.model import DropRule
from testbed.topology.vary import with_function, with_link
from testbed.trace.observations import (
    connection_in,
    largest_payload,
    most_in_flight,
    repair_time,
    sack_blocks,
)
from testbed.traffic import transfer

CLIENT, ROUTER, SERVER = "client", "router", "server"
FUNCTION = "options"

_SIZE = 1_000_000
_LOST = tuple(range(161, 177, 2))
_UNSCALED_WINDOW = 65535
_DEFAULT_MSS = 536  # RFC 9293 section 3.7.1

_EXPECTED = {
    "nothing": "all options at work",
    "window-scale": "64 KiB in flight at most",
    "sack": "one repair per round trip",
    "timestamps": "no timestamps",
    "mss": "segments of 536 bytes",
}

Strip = Literal["nothing", "window-scale", "sack", "timestamps", "mss"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """Which option is missing, told from its absence's effect in the captures."""
    if float(measured["largest_payload"]) <= _DEFAULT_MSS:
        verdict = _EXPECTED["mss"]
    elif float(measured["most_in_flight"]) <= _UNSCALED_WINDOW:
        verdict = _EXPECTED["window-scale"]
    elif not measured["sack_blocks"] and float(measured["repair_ms"]) > 4 * float(
        measured["round_trip_ms"]
    ):
        verdict = _EXPECTED["sack"]
    elif not measured["timestamps"]:
        verdict = _EXPECTED["timestamps"]
    else:
        verdict = _EXPECTED["nothing"]
    return Judgement(verdict, _EXPECTED[parameters["strip"]])


@scenario(
    "option-stripping",
    topology="option-stripping",
    grid={"strip": tuple(_EXPECTED)},
    judge=judge,
    columns={
        "strip": "stripped",
        "time_ms": "1 MB took (ms)",
        "largest_payload": "largest segment (B)",
        "most_in_flight": "most in flight (B)",
        "sack_blocks": "SACK blocks",
        "repair_ms": "repair of 8 losses (ms)",
    },
)
def option_stripping(experiment: Experiment, strip: Strip = "nothing") -> Measurements:
    """What each TCP option is good for: an upload through a box that takes it away."""
    topology = with_function(
        with_link(
            experiment.topology,
            CLIENT,
            ROUTER,
            direction="forward",
            drop=tuple(DropRule(data_segment=number) for number in _LOST),
        ),
        ROUTER,
        FUNCTION,
        strip=[] if strip == "nothing" else [strip],
    )
    round_trip = topology.round_trip
    with experiment.lab(topology) as lab:
        found = transfer(lab[CLIENT], lab[SERVER], _SIZE)
    sent = connection_in(experiment.captures[f"{CLIENT}:eth0"])
    received = connection_in(experiment.captures[f"{SERVER}:eth0"])
    stamped = sum(
        segment.options.timestamps is not None for segment in received.by_initiator.segments
    )
    return {
        "time_ms": found.last_byte * 1000,
        "round_trip_ms": round_trip * 1000,
        "largest_payload": largest_payload(received.by_initiator),
        "most_in_flight": most_in_flight(sent, sent.by_initiator),
        "sack_blocks": sack_blocks(sent.by_responder),
        "repair_ms": repair_time(sent.by_initiator) * 1000,
        "timestamps": stamped,
    }
