"""A rate that changes all the time, replayed from a trace."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from testbed.errors import ScenarioError
from testbed.scenarios import (
    Experiment,
    Judgement,
    Measurements,
    Presentation,
    Result,
    conclude,
    medians_of,
    scenario,
)
from testbed.scenarios.parameters import Positive
from testbed.topology.model import RateTrace, Topology
from testbed.topology.vary import with_node
from testbed.traffic import stream
from testbed.wire.frame import FULL_FRAME

SERVER, PHONE = "server", "phone"
FOLLOWS, LAGS = "follows the trace", "lags behind the trace"

_FOLLOWED = 60

CongestionControl = Literal["cubic", "bbr"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """Whether most of what could have been sent was."""
    follows = float(measured["used_percent"]) > _FOLLOWED
    return Judgement(FOLLOWS if follows else LAGS, FOLLOWS)


def present(result: Result, topology: Topology, folder: Path) -> Presentation:
    """The sentence."""
    found = medians_of(
        result, "worst_ms", {"congestion_control": "cubic"}, {"congestion_control": "bbr"}
    )
    if not found:
        return conclude("The worst round trips are those while the signal fades.", folder)
    cubic, bbr = found
    return conclude(
        f"When the signal fades, what waits in the queue takes its time: the worst round trip is "
        f"{cubic:.0f} ms with cubic and {bbr:.0f} ms with bbr, of a path that has 40 ms.",
        folder,
    )


@scenario(
    "lte-trace",
    topology="lte-trace",
    grid={"congestion_control": ("cubic", "bbr")},
    judge=judge,
    present=present,
    columns={
        "congestion_control": "congestion control",
        "goodput_mbit": "goodput (Mbit/s)",
        "offered_mbit": "the trace offers (Mbit/s)",
        "used_percent": "used (%)",
        "rtt_ms": "median round trip (ms)",
        "worst_ms": "worst (ms)",
    },
)
def lte_trace(
    experiment: Experiment, congestion_control: CongestionControl = "cubic", seconds: Positive = 6.0
) -> Measurements:
    """A download over a mobile link whose rate wanders and fades, from a trace file."""
    topology = with_node(experiment.topology, SERVER, congestion_control=congestion_control)
    trace = topology.links[0].forward.rate_trace
    if trace is None:
        raise ScenarioError(
            "The first link has no rate trace forward, so there is nothing to follow. Give it "
            "`rate: {trace: FILE}`."
        )
    with experiment.lab(topology) as lab:
        found = stream(lab[SERVER], lab[PHONE], seconds)
    offered = offered_bits(trace, seconds) / seconds
    return {
        "goodput_mbit": found.goodput / 1e6,
        "offered_mbit": offered / 1e6,
        "used_percent": 100 * found.goodput / offered,
        "rtt_ms": 1000 * found.round_trip(),
        "worst_ms": 1000 * found.round_trip(quantile=1.0),
    }


def offered_bits(trace: RateTrace, seconds: float) -> float:
    """What the trace lets pass from its start on, in full-sized packets."""
    moments = trace.opportunities
    whole, rest = divmod(seconds * 1000, moments[-1])
    return (whole * len(moments) + bisect_right(moments, rest)) * FULL_FRAME * 8
