"""Selective acknowledgements of data that nobody sent: a firewall forgets the SACK blocks.

It gives the connection other sequence numbers, translates sequence number and acknowledgement of
every segment, and leaves the SACK option as it is. To the sender its blocks mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from testbed.scenarios import Experiment, Judgement, Measurements, scenario
from testbed.topology.model import DropRule, Topology
from testbed.topology.vary import with_function_if, with_link, with_node
from testbed.trace import Connection
from testbed.trace.observations import connection_in, detection_time
from testbed.traffic import transfer
from testbed.wire.sequence import difference

CLIENT, ROUTER, SERVER = "client", "router", "server"
FUNCTION = "sequence-randomiser"
SOON, LATE = "fast retransmit", "retransmission time-out"

_SIZE = 300_000
_LOST = (41, 43, 45)
# A time-out takes 200 ms and a round trip of 20 ms at least, and nearly every loss needs one.
_LATE_MS = 500.0

Box = Literal["none", "translates", "forgets"]
Sack = Literal["on", "off"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """By the whole time: a tail loss probe may happen to repair one of the losses soon."""
    ill = parameters["box"] == "forgets" and parameters["sack"] == "on"
    late = float(measured["time_ms"]) > _LATE_MS
    return Judgement(LATE if late else SOON, LATE if ill else SOON)


@scenario(
    "sack-untranslated",
    topology="sack-untranslated",
    grid={"box": ("none", "translates", "forgets")},
    extra=({"box": "forgets", "sack": "off"},),
    judge=judge,
    columns={
        "box": "sequence randomiser",
        "sack": "client's tcp_sack",
        "time_ms": "300 kB took (ms)",
        "repaired_after_ms": "first loss repaired after (ms)",
        "blocks": "SACK blocks",
        "senseless": "of data never sent",
    },
    labels={"box": {"forgets": "forgets SACK blocks", "translates": "translates all"}},
)
def sack_untranslated(
    experiment: Experiment, box: Box = "forgets", sack: Sack = "on"
) -> Measurements:
    """A firewall randomises sequence numbers and forgets those in SACK blocks."""
    with experiment.lab(_variant(experiment.topology, box, sack)) as lab:
        found = transfer(lab[CLIENT], lab[SERVER], _SIZE)
    connection = connection_in(experiment.captures[f"{CLIENT}:eth0"])
    blocks, senseless = _blocks(connection)
    return {
        "time_ms": found.last_byte * 1000,
        "repaired_after_ms": detection_time(connection.by_initiator) * 1000,
        "blocks": blocks,
        "senseless": senseless,
    }


def _variant(topology: Topology, box: Box, sack: Sack) -> Topology:
    rules = tuple(DropRule(data_segment=number) for number in _LOST)
    topology = with_link(topology, CLIENT, ROUTER, direction="forward", drop=rules)
    options = {"translate_sack": box == "translates"}
    topology = with_function_if(box != "none", topology, ROUTER, FUNCTION, **options)
    if sack == "off":
        topology = with_node(topology, CLIENT, sysctls={"net.ipv4.tcp_sack": "0"})
    return topology


def _blocks(connection: Connection) -> tuple[int, int]:
    """How many SACK blocks the sender got, and how many of them are of data it had not sent."""
    sender = connection.by_initiator
    last = max(segment.number for segment in sender.segments)
    end = sender.isn + sender.unique_bytes + 2
    edges = [
        edge
        for segment in connection.by_responder.segments
        if segment.number < last
        for _, edge in segment.options.sack
    ]
    outside = [
        edge for edge in edges if difference(edge, sender.isn) < 0 or difference(edge, end) > 0
    ]
    return len(edges), len(outside)
