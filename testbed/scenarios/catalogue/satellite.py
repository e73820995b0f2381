"""A short transfer over a geostationary satellite: every round trip counts."""

from __future__ import annotations

import math
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
from testbed.scenarios.parameters import Count
from testbed.topology.model import Route, RouteMetrics, Topology
from testbed.topology.vary import with_node
from testbed.traffic import transfer

CLIENT, SERVER = "client", "server"
SLOW_START, HELD_UP = "takes what slow start takes", "held up by the receiver's window"

_SEGMENT = 1448
# How great a window Linux's usual 131,072 bytes make depends on the device: 90 kB of packets from
# a TAP fit into them, 64 kB from a veth, which count with all the memory that the sender gave them.
_BUFFERS = {"ample": "4096 1048576 6291456", "small": "4096 65536 65536"}

InitialWindow = Literal["10", "32"]
Receiver = Literal["ample", "small"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """In whole round trips: the handshake's, and those that slow start needs at least."""
    least = 1 + flights(float(measured["size"]) / _SEGMENT, int(parameters["initcwnd"]))
    found = round(float(measured["round_trips"]))
    verdict = SLOW_START if found == least else HELD_UP if found > least else f"{found} round trips"
    return Judgement(verdict, HELD_UP if parameters["receive_buffer"] == "small" else SLOW_START)


def flights(segments: float, window: float) -> int:
    """Round trips that slow start takes to send so many segments (RFC 5681 section 3.1)."""
    return math.ceil(math.log2(segments / window + 1))


def present(result: Result, topology: Topology, folder: Path) -> Presentation:
    """The sentence."""
    found = medians_of(
        result,
        "time_ms",
        {"initcwnd": "10", "receive_buffer": "ample"},
        {"initcwnd": "32", "receive_buffer": "ample"},
        {"initcwnd": "32", "receive_buffer": "small"},
    )
    if not found:
        return conclude("Time is counted in round trips of 600 ms here.", folder)
    ten, more, small = (value / 1000 for value in found)
    return conclude(
        f"An initial window of 32 segments instead of 10 brings the same bytes in {more:.1f} s "
        f"instead of {ten:.1f} s; a receiver with a small buffer takes back {small - more:.1f} s "
        "of that, because it never lets more than a window be on the way.",
        folder,
    )


@scenario(
    "satellite",
    topology="satellite",
    grid={"initcwnd": ("10", "32"), "receive_buffer": ("ample", "small")},
    judge=judge,
    present=present,
    columns={
        "initcwnd": "initial window (segments)",
        "receive_buffer": "receiver's buffer",
        "time_ms": "time (ms)",
        "round_trips": "round trips",
    },
)
def satellite(
    experiment: Experiment,
    initcwnd: InitialWindow = "10",
    receive_buffer: Receiver = "ample",
    size: Count = 130_000,
) -> Measurements:
    """A download of 130 kB over 600 ms of round trip: initial and receive windows."""
    route = Route(to=CLIENT, metrics=RouteMetrics(initcwnd=int(initcwnd)))
    topology = with_node(experiment.topology, SERVER, routes=(route,))
    buffer = {"net.ipv4.tcp_rmem": _BUFFERS[receive_buffer]}
    topology = with_node(topology, CLIENT, sysctls=buffer)
    round_trip = topology.round_trip
    with experiment.lab(topology) as lab:
        found = transfer(lab[CLIENT], lab[SERVER], size, direction="download")
    return {
        "time_ms": found.last_byte * 1000,
        "round_trips": found.last_byte / round_trip,
        "size": size,
    }
