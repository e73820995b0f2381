"""Connections that open and then hang: a narrow path whose ICMP errors are filtered.

The handshake is small and gets through; the first full segment does not, and nobody says so.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any, Literal

from testbed.errors import LabError
from testbed.scenarios import Experiment, Judgement, Measurements, scenario
from testbed.scenarios.parameters import Positive
from testbed.topology.vary import with_function, with_node
from testbed.trace.observations import connection_in, largest_payload
from testbed.traffic import transfer

CLIENT, ROUTER, SERVER = "client", "router", "server"
FUNCTION = "pmtu-black-hole"
HANGS, PROBES, AT_ONCE = "hangs", "found out by probing", "at once"

_SIZE = 100_000
_SOON_MS = 700.0

Icmp = Literal["send", "drop"]
Probing = Literal[0, 1, 2]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """Whether all arrived, and whether before the sender could find anything out by waiting."""
    if not measured["arrived"]:
        verdict = HANGS
    elif float(measured["time_ms"]) > _SOON_MS:
        verdict = PROBES
    else:
        verdict = AT_ONCE
    if parameters["icmp"] == "send":
        return Judgement(verdict, AT_ONCE)
    return Judgement(verdict, (HANGS, PROBES, AT_ONCE)[parameters["probing"]])


@scenario(
    "pmtu-black-hole",
    topology="pmtu-black-hole",
    grid={"icmp": ("drop",), "probing": (0, 1, 2)},
    extra=({"icmp": "send", "probing": 0},),
    judge=judge,
    columns={
        "icmp": "ICMP errors",
        "probing": "tcp_mtu_probing",
        "time_ms": "100 kB took (ms)",
        "retransmissions": "retransmissions",
        "largest_sent": "largest segment sent (B)",
        "largest_received": "received (B)",
    },
    labels={"icmp": {"drop": "filtered", "send": "sent"}},
)
def pmtu_black_hole(
    experiment: Experiment, icmp: Icmp = "drop", probing: Probing = 0, patience: Positive = 5.0
) -> Measurements:
    """A narrow path whose ICMP errors are filtered: the connection opens, and hangs.

    patience: seconds after which the experiment gives the transfer up.
    """
    topology = with_node(
        with_function(experiment.topology, ROUTER, FUNCTION, icmp=icmp),
        CLIENT,
        sysctls={
            "net.ipv4.tcp_mtu_probing": str(probing),
            # A black hole is suspected after this many time-outs (tcp_timer.c, tcp_write_timeout).
            "net.ipv4.tcp_retries1": "1",
        },
    )
    arrived = 0
    with experiment.lab(topology) as lab:
        started = time.monotonic()
        with contextlib.suppress(LabError):
            transfer(lab[CLIENT], lab[SERVER], _SIZE, timeout=patience)
            arrived = 1
        took = time.monotonic() - started
    sent = connection_in(experiment.captures[f"{CLIENT}:eth0"]).by_initiator
    received = connection_in(experiment.captures[f"{SERVER}:eth0"]).by_initiator
    return {
        "arrived": arrived,
        "time_ms": took * 1000,
        "retransmissions": len(sent.retransmissions()),
        "largest_sent": largest_payload(sent),
        "largest_received": largest_payload(received),
    }
