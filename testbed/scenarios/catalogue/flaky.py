"""A link that goes away and comes back: how long TCP takes to notice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbed.errors import ScenarioError
from testbed.lab import Lab
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
from testbed.topology.model import ScheduledChange, Topology
from testbed.topology.vary import with_link
from testbed.traffic import Stream, stream

SENDER, RECEIVER = "sender", "receiver"
RECOVERS, DEAD = "recovers", "stays dead"

_BEFORE = 0.5
_OUTAGES = (0.3, 1.0, 3.0)
#: The first time-out and a margin; from then on each wait is as long as all those before it.
_SLACK = 0.8


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """With a time-out that doubles, the wait after an outage is no longer than the outage was."""
    most = 1000 * (float(parameters["outage"]) + _SLACK)
    back = 0 <= float(measured["dead_after_ms"]) <= most
    return Judgement(RECOVERS if back else DEAD, RECOVERS)


def present(result: Result, topology: Topology, folder: Path) -> Presentation:
    """The sentence."""
    found = medians_of(result, "dead_after_ms", *({"outage": outage} for outage in _OUTAGES))
    if not found:
        return conclude("TCP notices that a link is back when it next retransmits.", folder)
    told = ", ".join(
        f"{late:.0f} ms after {outage:g} s" for outage, late in zip(_OUTAGES, found, strict=True)
    )
    return conclude(
        f"The link is back but TCP is still silent for {told}: it waits for a retransmission "
        "time-out that doubles each time, so an outage costs up to twice its length.",
        folder,
    )


@scenario(
    "flaky",
    topology="flaky",
    grid={"outage": _OUTAGES},
    judge=judge,
    present=present,
    columns={
        "outage": "outage (s)",
        "dead_after_ms": "silent after it (ms)",
        "rto_ms": "time-out in the end (ms)",
        "backoff": "doublings",
        "retransmissions": "retransmissions",
        "lost": "packets lost",
    },
)
def flaky(experiment: Experiment, outage: Positive = 1.0) -> Measurements:
    """Outages of 0.3, 1 and 3 s in a transfer: how long TCP stays silent after them."""
    schedule = (
        ScheduledChange(at=_BEFORE, cut=True),
        ScheduledChange(at=_BEFORE + outage, cut=False),
    )
    topology = with_link(experiment.topology, SENDER, RECEIVER, schedule=schedule)
    with experiment.lab(topology) as lab:
        link = lab.link(SENDER, RECEIVER)
        link.start_schedule()
        found = stream(lab[SENDER], lab[RECEIVER], _BEFORE + 2 * outage + _SLACK)
        restored = _restored_at(lab)
        counted = link.counters
    silent = [one.info for one in found.samples if one.time_ns <= restored]
    return {
        "dead_after_ms": _silence(found, restored),
        "rto_ms": max(info.rto_us for info in silent) / 1000,
        "backoff": max(info.backoff for info in silent),
        "retransmissions": found.samples[-1].info.total_retrans,
        "lost": counted.forward.dropped["cut"] + counted.reverse.dropped["cut"],
    }


def _restored_at(lab: Lab) -> int:
    for event in lab.link(SENDER, RECEIVER).events:
        if event.change.cut is False and not event.error:
            return event.time_ns
    raise ScenarioError("The link was not restored while the stream lasted.")


def _silence(found: Stream, restored: int) -> float:
    """Milliseconds from the end of the outage to the first news from the receiver; -1: none."""
    before = max(one.info.bytes_acked for one in found.samples if one.time_ns <= restored)
    for one in found.samples:
        if one.time_ns > restored and one.info.bytes_acked > before:
            return (one.time_ns - restored) / 1e6
    return -1.0
