"""Explicit congestion notification, and boxes that clear its bits or drop what carries them.

The bottleneck behind the box marks ECN-capable packets when its queue grows, and drops others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Literal

from testbed.errors import LabError
from testbed.scenarios import Experiment, Judgement, Measurements, scenario
from testbed.scenarios.parameters import Positive
from testbed.topology.model import FunctionSpec, Queue, QueueLimit, Red, Topology
from testbed.topology.vary import with_link, with_node
from testbed.trace import Connection
from testbed.trace.observations import connection_in
from testbed.traffic import transfer
from testbed.wire.flags import ECE, SYN

CLIENT, ROUTER, SERVER = "client", "router", "server"

MARKED, DROPPED, REFUSED = "marked, not dropped", "agreed, but dropped", "no ECN, dropped"
LATE, HANGS, CRAWLS = "a second late, no ECN", "no connection", "data lost again and again"

_SIZE = 1_000_000
_QUEUE = Queue(
    limit=QueueLimit(500, "packets"),
    aqm=Red(minimum=6_000, maximum=30_000, probability=0.5, weight=0.2),
    ecn=True,
)
_FUNCTIONS: dict[str, tuple[FunctionSpec, ...]] = {
    "none": (),
    "clears IP bits": (FunctionSpec("ecn-bleach", {"bits": "ip"}),),
    "clears TCP flags": (FunctionSpec("ecn-bleach", {"bits": "tcp"}),),
    "drops ECN SYNs": (FunctionSpec("ecn-black-hole", {"drop": "setup"}),),
    "drops ECN packets": (FunctionSpec("ecn-black-hole", {"drop": "capable"}),),
}
_EXPECTED = dict(zip(_FUNCTIONS, (MARKED, DROPPED, REFUSED, LATE, CRAWLS), strict=True))
_LATE_MS = 800.0

Box = Literal["none", "clears IP bits", "clears TCP flags", "drops ECN SYNs", "drops ECN packets"]
Fallback = Literal[0, 1]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """By what the captures show of the handshake and of the marks."""
    expected = _EXPECTED[parameters["box"]]
    if expected == LATE and not parameters["fallback"]:
        expected = HANGS
    if not measured["connected"]:
        verdict = HANGS
    elif not measured["arrived"]:
        verdict = CRAWLS
    elif not measured["agreed"]:
        verdict = LATE if float(measured["connect_ms"]) > _LATE_MS else REFUSED
    else:
        verdict = MARKED if measured["echoes"] else DROPPED
    return Judgement(verdict, expected)


@scenario(
    "ecn",
    topology="ecn",
    grid={"box": tuple(_FUNCTIONS)},
    extra=({"box": "drops ECN SYNs", "fallback": 0},),
    judge=judge,
    columns={
        "box": "box",
        "fallback": "tcp_ecn_fallback",
        "connect_ms": "connected after (ms)",
        "agreed": "ECN agreed on",
        "echoes": "ACKs that echo a mark",
        "retransmissions": "retransmissions",
    },
)
def ecn(
    experiment: Experiment, box: Box = "none", fallback: Fallback = 1, patience: Positive = 3.0
) -> Measurements:
    """A queue that marks instead of dropping, behind a box that does not like ECN.

    fallback: whether the client repeats a lost SYN without asking for ECN. patience: seconds
    after which the experiment gives the transfer up.
    """
    arrived = 0
    topology = _variant(experiment.topology, box, fallback)
    with experiment.lab(topology) as lab, contextlib.suppress(LabError):
        transfer(lab[CLIENT], lab[SERVER], _SIZE, timeout=patience)
        arrived = 1
    connection = connection_in(experiment.captures[f"{CLIENT}:eth0"])
    sent = connection.by_initiator
    return {
        "connected": int(connection.handshake.ack is not None),
        "arrived": arrived,
        "connect_ms": _connect_ms(connection),
        "agreed": int(_agreed(connection)),
        "echoes": _echoes(connection),
        "retransmissions": sum(not segment.flags & SYN for segment in sent.retransmissions()),
    }


def _variant(topology: Topology, box: Box, fallback: Fallback) -> Topology:
    client = topology.nodes[CLIENT]
    sysctls = {**client.sysctls, "net.ipv4.tcp_ecn_fallback": str(fallback)}
    topology = with_node(topology, CLIENT, sysctls=sysctls)
    topology = with_link(topology, ROUTER, SERVER, direction="forward", queue=_QUEUE)
    return with_node(topology, ROUTER, functions=_FUNCTIONS[box])


def _connect_ms(connection: Connection) -> float:
    answer = connection.handshake.syn_ack
    return (answer.time - connection.start) / 1e6 if answer else 0.0


def _agreed(connection: Connection) -> bool:
    """The SYN/ACK agrees by ECE without CWR (RFC 3168 section 6.1.1)."""
    answer = connection.handshake.syn_ack
    return answer is not None and bool(answer.flags & ECE)


def _echoes(connection: Connection) -> int:
    return sum(
        bool(segment.flags & ECE) and not segment.flags & SYN
        for segment in connection.by_responder.segments
    )
