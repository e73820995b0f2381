"""Datagrams in fragments through a box that reassembles: within its limits, and beyond them.

A datagram of 20 kB makes 14 fragments, and takes 160 ms on a link of 1 Mbit/s.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any, Literal

from testbed.errors import ScenarioError
from testbed.lab import Lab
from testbed.scenarios import Experiment, Judgement, Measurements, scenario
from testbed.scenarios.parameters import Count
from testbed.topology.vary import with_function
from testbed.trace.observations import fragments_in

CLIENT, ROUTER, SERVER = "client", "router", "server"
FUNCTION = "fragments"
ARRIVES, TOO_MANY, TOO_LATE = "arrives", "dropped: fragment-limit", "dropped: reassembly-timeout"

_PORT = 9000
_END = b"end"
_PATIENCE = 10.0

_BOXES: dict[str, tuple[dict[str, object], str]] = {
    "default": ({}, ARRIVES),
    "limit 14": ({"limit": 14}, ARRIVES),
    "limit 13": ({"limit": 13}, TOO_MANY),
    "timeout 50 ms": ({"reassembly_timeout": 0.05}, TOO_LATE),
}

BoxKind = Literal["default", "limit 14", "limit 13", "timeout 50 ms"]
Family = Literal[4, 6]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """By what the server got, what its capture shows, and what the box says it dropped."""
    sent, dropped_late = int(measured["sent"]), int(measured["too_late"])
    if measured["datagrams"]:
        whole = measured["arrived"] == sent and not dropped_late and not measured["over_limit"]
        verdict = ARRIVES if whole else "arrives, though fragments are missing"
    elif measured["arrived"]:
        verdict = "does not arrive, but fragments of it do"
    elif measured["over_limit"] == sent:
        verdict = TOO_MANY
    elif (
        dropped_late and dropped_late + int(measured["held"]) == sent
    ):  # the last may still be held
        verdict = TOO_LATE
    else:
        verdict = "vanishes"
    return Judgement(verdict, _BOXES[parameters["box"]][1])


@scenario(
    "fragments",
    topology="fragments",
    grid={"box": tuple(_BOXES), "family": (4, 6)},
    judge=judge,
    columns={
        "box": "the box",
        "family": "IP",
        "sent": "fragments sent",
        "arrived": "arrived",
        "over_limit": "dropped by limit",
        "too_late": "by timeout",
        "held": "still held",
        "datagrams": "datagrams received",
    },
)
def fragments(
    experiment: Experiment, box: BoxKind = "default", family: Family = 4, size: Count = 20_000
) -> Measurements:
    """A box reassembles datagrams, up to so many fragments and for so long.

    size: of the datagram, in bytes.
    """
    topology = with_function(experiment.topology, ROUTER, FUNCTION, **_BOXES[box][0])
    with experiment.lab(topology) as lab:
        received = _send(lab, family, size)
        counters = lab[ROUTER].counters()
    return {
        "sent": fragments_in(experiment.captures[f"{CLIENT}:eth0"]),
        "arrived": fragments_in(experiment.captures[f"{SERVER}:eth0"]),
        "over_limit": counters.dropped.get("fragment-limit", 0),
        "too_late": counters.dropped.get("reassembly-timeout", 0),
        "held": counters.held,
        "datagrams": received,
    }


def _send(lab: Lab, family: Family, size: int) -> int:
    """Send one datagram and then a small one; how many large ones came before the small one."""
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    sender, receiver = (lab[node].socket(kind, socket.SOCK_DGRAM) for node in (CLIENT, SERVER))
    with sender, receiver:
        address = (lab[SERVER].addresses(family)[0], _PORT)
        receiver.bind(address)
        receiver.settimeout(_PATIENCE)
        content = os.urandom(size)
        for datagram in (content, _END):
            sender.sendto(datagram, address)
        received = 0
        try:
            while (datagram := receiver.recv(size)) != _END:
                received += datagram == content
        except TimeoutError:
            raise ScenarioError(
                f"A datagram of {len(_END)} bytes did not arrive within {_PATIENCE:g} s; give the "
                "link no losses and more rate."
            ) from None
        return received
