"""A setup proxy under a flood of SYNs: what remembering costs, and SYN cookies as the cure.

The table of half-open connections is small, and the flood fills it several times in each round
trip: a client's opening has made room for forged ones before its acknowledgement comes.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, Literal

from testbed.errors import LabError
from testbed.lab import LabNode
from testbed.scenarios import Experiment, Judgement, Measurements, scenario
from testbed.scenarios.parameters import Count, Positive
from testbed.topology.vary import with_function
from testbed.trace import read_trace
from testbed.traffic import Responder, SynFlood, exchange

CLIENT, ATTACKER, ROUTER, SERVER = "client", "attacker", "router", "server"
FUNCTION = "setup-proxy"
SERVED, SHUT_OUT = "all are served", "clients are shut out"

_PATIENCE = 2.0

Cookies = Literal["off", "on"]
Flood = Literal["none", "forged SYNs"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """By the clients that got an answer; when the flood stalls, one or another may slip in."""
    verdict = SERVED if measured["answered"] == measured["asked"] else SHUT_OUT
    ill = parameters["flood"] != "none" and parameters["cookies"] == "off"
    return Judgement(verdict, SHUT_OUT if ill else SERVED)


@scenario(
    "syn-flood",
    topology="syn-flood",
    grid={"flood": ("forged SYNs",), "cookies": ("off", "on")},
    extra=({"flood": "none", "cookies": "on"},),
    judge=judge,
    columns={
        "flood": "flood",
        "cookies": "SYN cookies",
        "forged": "SYNs of the flood",
        "forgotten": "openings forgotten",
        "asked": "clients",
        "answered": "answered",
        "response_ms": "after (ms)",
        "reached": "SYNs at the server",
    },
)
def syn_flood(
    experiment: Experiment,
    flood: Flood = "forged SYNs",
    cookies: Cookies = "on",
    clients: Count = 10,
    rate: Positive = 2000.0,
) -> Measurements:
    """SYNs from forged addresses fill the table of a setup proxy, unless it uses SYN cookies.

    clients: connections that are made one after the other meanwhile. rate: of the flood, per
    second.
    """
    topology = with_function(experiment.topology, ROUTER, FUNCTION, cookies=cookies == "on")
    per_second = 0.0 if flood == "none" else rate
    with (
        experiment.lab(topology) as lab,
        Responder(lab[SERVER]) as responder,
        SynFlood(lab[ATTACKER], responder.address, responder.port, rate=per_second) as attack,
    ):
        times = [_ask(lab[CLIENT], responder) for _ in range(clients)]
        counters = lab[ROUTER].function(FUNCTION).counters()
    arrived = read_trace(experiment.captures[f"{SERVER}:eth0"]).connections
    answered = [time for time in times if time is not None]
    return {
        "forged": attack.sent,
        "forgotten": counters.get("evicted-opening", 0),
        "asked": clients,
        "answered": len(answered),
        "response_ms": statistics.median(answered or [0.0]) * 1000,
        "reached": sum(one.handshake.syn is not None for one in arrived),
    }


def _ask(client: LabNode, responder: Responder) -> float | None:
    """Seconds from connecting to the response; None without one."""
    try:
        found = exchange(client, responder, timeout=_PATIENCE)
    except LabError:
        client.check()
        return None
    return found.connect + found.last_byte
