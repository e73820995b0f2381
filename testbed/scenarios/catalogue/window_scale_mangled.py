"""The crawl behind a box that zeroes the window scale of one side.

Both sides believe that scaling was agreed on. The one whose scale was zeroed on the way goes on
to announce its windows in units that the other does not know of, which takes them for a hundredth
of what they are. Only transfers towards the side that was mangled suffer.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, Literal

from testbed.scenarios import Experiment, Judgement, Measurements, scenario
from testbed.scenarios.parameters import Count
from testbed.topology.vary import with_function_if, with_node
from testbed.trace import Connection
from testbed.trace.observations import connection_in
from testbed.traffic import transfer
from testbed.wire.flags import RST, SYN

CLIENT, ROUTER, SERVER = "client", "router", "server"
FUNCTION = "window-scale-mangler"
CRAWLS, FLIES = "crawls", "full speed"

_CRAWLING_MS = 600.0
_DIRECTIONS = {"syn": "inward", "syn-ack": "outward"}

Mangled = Literal["neither", "syn", "syn-ack"]
Way = Literal["download", "upload"]
Scaling = Literal["on", "off"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """By the clock: what crawls takes seconds for what is done in four round trips."""
    struck = {"syn": "download", "syn-ack": "upload"}.get(parameters["mangled"])
    ill = parameters["transfer_way"] == struck and parameters["scaling"] == "on"
    crawls = float(measured["time_ms"]) > _CRAWLING_MS
    return Judgement(CRAWLS if crawls else FLIES, CRAWLS if ill else FLIES)


@scenario(
    "window-scale-mangled",
    topology="window-scale-mangled",
    grid={"mangled": ("neither", "syn", "syn-ack"), "transfer_way": ("download", "upload")},
    extra=({"mangled": "syn", "transfer_way": "download", "scaling": "off"},),
    judge=judge,
    columns={
        "mangled": "scale zeroed in",
        "transfer_way": "transfer",
        "scaling": "client's tcp_window_scaling",
        "time_ms": "20 kB took (ms)",
        "window": "window that the sender sees (B)",
        "scale_named": "scale named by receiver",
        "scale_read": "scale read by sender",
    },
)
def window_scale_mangled(
    experiment: Experiment,
    mangled: Mangled = "syn",
    transfer_way: Way = "download",
    scaling: Scaling = "on",
    size: Count = 20_000,
) -> Measurements:
    """The crawl behind a box that zeroes the window scale of one side only."""
    options = {"scale": 0, "direction": _DIRECTIONS.get(mangled)}
    mangles = mangled != "neither"
    topology = with_function_if(mangles, experiment.topology, ROUTER, FUNCTION, **options)
    if scaling == "off":
        topology = with_node(topology, CLIENT, sysctls={"net.ipv4.tcp_window_scaling": "0"})
    with experiment.lab(topology) as lab:
        found = transfer(lab[CLIENT], lab[SERVER], size, direction=transfer_way)
    sender, receiver = (SERVER, CLIENT) if transfer_way == "download" else (CLIENT, SERVER)
    near_sender = connection_in(experiment.captures[f"{sender}:eth0"])
    near_receiver = connection_in(experiment.captures[f"{receiver}:eth0"])
    read = _scale(near_sender, receiver)
    return {
        "time_ms": found.last_byte * 1000,
        "window": _usual_window(near_sender, receiver) << (read or 0),
        "scale_named": _in_words(_scale(near_receiver, receiver)),
        "scale_read": _in_words(read),
    }


def _scale(connection: Connection, receiver: str) -> int | None:
    """The window scale of the receiver of the data, as a capture shows it."""
    handshake = connection.handshake
    opening = handshake.syn if receiver == CLIENT else handshake.syn_ack
    return opening.options.window_scale if opening else None


def _usual_window(connection: Connection, receiver: str) -> int:
    """The median of the receiver's windows, as they stand in the headers."""
    said = connection.by_initiator if receiver == CLIENT else connection.by_responder
    return statistics.median_low([s.window for s in said.segments if not s.flags & (SYN | RST)])


def _in_words(scale: int | None) -> str:
    return "none" if scale is None else str(scale)
