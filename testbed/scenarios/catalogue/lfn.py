"""A long fat network: how much may be on the way decides, not the rate."""

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
from testbed.topology.model import Topology
from testbed.topology.vary import with_node
from testbed.traffic import stream

SENDER, RECEIVER = "sender", "receiver"
WINDOW, PATH = "limited by the window", "limited by the path"

_SETTINGS = {
    "scaled": {},
    "small buffer": {"net.ipv4.tcp_rmem": "4096 131072 131072"},
    "unscaled": {"net.ipv4.tcp_window_scaling": "0"},
}

Receiver = Literal["scaled", "small buffer", "unscaled"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """By what the kernel says it was waiting for most of the time (TCP_INFO, rwnd_limited)."""
    limited = float(measured["window_limited_percent"]) > 50
    expected = PATH if parameters["window"] == "scaled" else WINDOW
    return Judgement(WINDOW if limited else PATH, expected)


def present(result: Result, topology: Topology, folder: Path) -> Presentation:
    """The sentence."""
    found = medians_of(result, "goodput_mbit", *({"window": name} for name in _SETTINGS))
    if not found:
        return conclude("A window per round trip is all that a receiver can get.", folder)
    scaled, small, unscaled = found
    return conclude(
        f"The path carries {scaled:.0f} Mbit/s; without window scaling a connection gets "
        f"{unscaled:.1f}, and with a receive buffer of 128 KiB {small:.1f}: one window in each "
        "round trip, however fast the link.",
        folder,
    )


@scenario(
    "lfn",
    topology="lfn",
    grid={"window": tuple(_SETTINGS)},
    judge=judge,
    present=present,
    columns={
        "window": "receiver's window",
        "goodput_mbit": "goodput (Mbit/s)",
        "largest_window": "largest window (B)",
        "window_limited_percent": "waiting for the window (%)",
    },
)
def lfn(
    experiment: Experiment, window: Receiver = "scaled", seconds: Positive = 3.0
) -> Measurements:
    """100 Mbit/s over 100 ms: window scaling and receive buffers on a long fat network."""
    topology = with_node(experiment.topology, RECEIVER, sysctls=_SETTINGS[window])
    with experiment.lab(topology) as lab:
        found = stream(lab[SENDER], lab[RECEIVER], seconds)
    last = found.samples[-1].info
    return {
        "goodput_mbit": found.goodput / 1e6,
        "largest_window": max(sample.info.snd_wnd for sample in found.samples),
        "window_limited_percent": 100 * last.rwnd_limited_us / max(1, last.busy_time_us),
    }
