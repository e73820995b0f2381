"""What loss does to goodput, by congestion control and by whether losses come in bursts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

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
from testbed.topology.model import GilbertElliott, Topology
from testbed.topology.vary import with_link, with_node
from testbed.traffic import stream

SENDER, RECEIVER = "sender", "receiver"
FILLS, COLLAPSES = "fills the link", "collapses"

_MEAN_BURST = 5
_FILLED = 0.5

CongestionControl = Literal["reno", "cubic", "bbr"]
Losses = Literal["random", "bursty"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """Loss-based congestion controls take every loss for congestion; bbr does not."""
    fills = float(measured["share_percent"]) > 100 * _FILLED
    expected = FILLS if parameters["congestion_control"] == "bbr" else COLLAPSES
    return Judgement(FILLS if fills else COLLAPSES, expected)


def present(result: Result, topology: Topology, folder: Path) -> Presentation:
    """The sentence."""
    found = medians_of(
        result,
        "goodput_mbit",
        {"congestion_control": "bbr", "losses": "random"},
        {"congestion_control": "reno", "losses": "random"},
        {"congestion_control": "reno", "losses": "bursty"},
    )
    if not found or not found[1]:
        return conclude("Each congestion control meets the same loss rate.", folder)
    bbr, reno, bursty = found
    return conclude(
        f"At the same loss rate bbr carries {bbr / reno:.0f} times what reno does; "
        f"and losses in bursts leave reno {bursty / reno:.1f} times what lone ones do, because "
        "it halves its window once for each burst, not for each packet.",
        folder,
    )


@scenario(
    "lossy",
    topology="lossy",
    grid={"congestion_control": ("reno", "cubic", "bbr"), "losses": ("random", "bursty")},
    judge=judge,
    present=present,
    columns={
        "congestion_control": "congestion control",
        "losses": "losses",
        "goodput_mbit": "goodput (Mbit/s)",
        "share_percent": "of the rate (%)",
        "lost_percent": "packets lost (%)",
        "retransmissions": "retransmissions",
    },
)
def lossy(
    experiment: Experiment,
    congestion_control: CongestionControl = "cubic",
    losses: Losses = "random",
    loss: float = 0.02,
    seconds: Positive = 2.5,
) -> Measurements:
    """Goodput of reno, cubic and bbr under lone losses and under bursts of the same rate."""
    topology = with_node(experiment.topology, SENDER, congestion_control=congestion_control)
    impairments: dict[str, Any] = {"loss": loss}
    if losses == "bursty":
        # Of every 1/p + 1/r packets 1/r are lost, in bursts of 1/r.
        r = 1 / _MEAN_BURST
        model = GilbertElliott(p=min(1.0, r * loss / (1 - loss)), r=r)
        impairments = {"loss": 0.0, "loss_model": model}
    topology = with_link(topology, SENDER, RECEIVER, direction="forward", **impairments)
    with experiment.lab(topology) as lab:
        found = stream(lab[SENDER], lab[RECEIVER], seconds)
        link = lab.link(SENDER, RECEIVER)
        counted, rate = link.counters.forward, link.planned.forward.rate or 0
    return {
        "goodput_mbit": found.goodput / 1e6,
        "share_percent": 100 * found.goodput / rate,
        "lost_percent": 100 * counted.dropped["loss"] / max(1, counted.packets_in),
        "retransmissions": found.samples[-1].info.total_retrans,
    }
