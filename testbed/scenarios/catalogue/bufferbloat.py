"""A queue that is far too long for its rate, and what active queue management makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

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
from testbed.topology.model import Codel, Red, Topology
from testbed.topology.vary import with_link
from testbed.traffic import stream

SENDER, RECEIVER = "sender", "receiver"
SECONDS, SHORT = "seconds of queue", "short queue"

_BLOATED_MS, _SHORT_MS = 1000, 500
# For some hundred packets a second: the defaults are made for thousands. With a small weight the
# kernel's red, whose average does not sink while nothing comes, drops lone retransmissions long.
_RED = Red(minimum=10_000, maximum=30_000, weight=0.25)
_DISCIPLINES = {"drop-tail": None, "red": _RED, "codel": Codel()}

Discipline = Literal["drop-tail", "red", "codel"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """By the round trip towards the end."""
    found = float(measured["rtt_ms"])
    if found > _BLOATED_MS:
        verdict = SECONDS
    elif found < _SHORT_MS:
        verdict = SHORT
    else:
        verdict = f"{found:.0f} ms of queue"
    return Judgement(verdict, SECONDS if parameters["queue"] == "drop-tail" else SHORT)


def present(result: Result, topology: Topology, folder: Path) -> Presentation:
    """The sentence."""
    cells = [{"queue": name} for name in _DISCIPLINES]
    found = medians_of(result, "rtt_ms", *cells)
    if not found:
        return conclude("The round trip without a queue is that of the link's delay.", folder)
    tail, red, codel = found
    plain, with_red, with_codel = medians_of(result, "goodput_mbit", *cells)
    delay = 2000 * topology.links[0].forward.delay
    return conclude(
        f"One transfer turns a round trip of {delay:.0f} ms into {tail / 1000:.1f} s for everybody "
        f"on the link; red brings it down to {red:.0f} ms and codel to {codel:.0f} ms. The "
        f"transfer gets {plain:.1f} Mbit/s, with red {with_red:.1f}, with codel {with_codel:.1f}.",
        folder,
    )


@scenario(
    "bufferbloat",
    topology="bufferbloat",
    grid={"queue": tuple(_DISCIPLINES)},
    judge=judge,
    present=present,
    columns={
        "queue": "queue",
        "rtt_ms": "round trip under load (ms)",
        "worst_ms": "worst (ms)",
        "goodput_mbit": "goodput (Mbit/s)",
        "high_water": "most packets waiting",
        "dropped": "dropped",
    },
)
def bufferbloat(
    experiment: Experiment, queue: Discipline = "drop-tail", seconds: Positive = 4.0
) -> Measurements:
    """Round-trip time under load: seconds in 1,000 packets of queue, far less with red or codel."""
    before = experiment.topology.links[0].forward.queue
    managed = msgspec.structs.replace(before, aqm=_DISCIPLINES[queue])
    topology = with_link(experiment.topology, SENDER, RECEIVER, direction="forward", queue=managed)
    with experiment.lab(topology) as lab:
        found = stream(lab[SENDER], lab[RECEIVER], seconds)
        counted = lab.link(SENDER, RECEIVER).counters.forward
    # netem does not tell how long its queue has been.
    waiting = counted.queue_high_water
    return {
        "rtt_ms": 1000 * found.round_trip(last=0.3),
        "worst_ms": 1000 * found.round_trip(quantile=1.0),
        "goodput_mbit": found.goodput / 1e6,
        **({} if waiting is None else {"high_water": waiting}),
        "dropped": sum(counted.dropped.values()),
    }
