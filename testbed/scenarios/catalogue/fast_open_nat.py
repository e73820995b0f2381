"""TCP Fast Open through a NAT: a cookie is good for one address only.

A server makes its cookie from the client's address (RFC 7413 section 4.1.2). Where a NAT gives a
client another one for each connection, no cookie ever matches: every connection succeeds, no
packet is lost, and nothing is gained.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any, Literal

from testbed.errors import ScenarioError
from testbed.lab import LabNode
from testbed.scenarios import (
    NAT_LABELS,
    Experiment,
    Judgement,
    Measurements,
    Nat,
    scenario,
    with_kernel_nat,
)
from testbed.scenarios.parameters import Count
from testbed.topology.model import Topology
from testbed.topology.vary import with_function
from testbed.trace import read_trace
from testbed.traffic import Responder, fast_open_exchange

CLIENT, NAT, SERVER = "client", "nat", "server"
FUNCTION = "nat"
MATCHES, NO_MATCH = "cookie matches: 1 round trip", "cookie never matches: 2 round trips"

_REQUEST_BYTES = 400
_SHORT = 0.1  # seconds
_PATIENCE = 20.0
_POLL_SECONDS = 0.02
_RULES = {"paired": "nat-paired", "none": "nat-unpaired"}  # with which the kernel does the same

Pooling = Literal["paired", "none"]
Timeout = Literal["long", "short"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """Whether the server took the data on the SYNs, told from its SYN/ACKs."""
    kept = parameters["address_pooling"] == "paired" and parameters["mapping_timeout"] == "long"
    taken, asked = measured["data_taken"], measured["data_on_syns"]
    addresses = measured["public_addresses"]
    if asked != measured["later"]:
        verdict = f"{asked} of {measured['later']} SYNs with data"
    elif taken == asked and addresses == 1:
        verdict = MATCHES
    elif taken == 0 and float(addresses) > 1:
        verdict = NO_MATCH
    else:
        verdict = f"{taken} of {asked} requests taken, {addresses} public addresses"
    return Judgement(verdict, MATCHES if kept else NO_MATCH)


@scenario(
    "fast-open-nat",
    topology="fast-open-nat",
    grid={"address_pooling": ("paired", "none"), "mapping_timeout": ("long",)},
    extra=({"nat": "testbed", "address_pooling": "paired", "mapping_timeout": "short"},),
    judge=judge,
    columns={
        "nat": "NAT of",
        "address_pooling": "address pooling",
        "mapping_timeout": "mapping timeout",
        "public_addresses": "public addresses",
        "data_on_syns": "SYNs with data",
        "data_taken": "taken by the server",
        "response_ms": "response after (ms)",
    },
    labels={
        "nat": NAT_LABELS,
        "mapping_timeout": {"long": "long", "short": "shorter than the pauses"},
    },
)
def fast_open_nat(
    experiment: Experiment,
    address_pooling: Pooling = "paired",
    mapping_timeout: Timeout = "long",
    later: Count = 3,
    nat: Nat = "testbed",
) -> Measurements:
    """TCP Fast Open through a NAT that keeps a client's public address, or changes it.

    later: connections after the first, which only gets the cookie.
    """
    topology = _with_nat(experiment.topology, nat, address_pooling, mapping_timeout)
    times = []
    with (
        experiment.lab(topology) as lab,
        Responder(lab[SERVER], request=_REQUEST_BYTES, response=1, fast_open=True) as responder,
    ):
        for _ in range(1 + later):
            times.append(fast_open_exchange(lab[CLIENT], responder).last_byte)
            if mapping_timeout == "short":
                _await_oblivion(lab[NAT])
    inner = read_trace(experiment.captures[f"{CLIENT}:eth0"]).connections[1:]
    outer = read_trace(experiment.captures[f"{SERVER}:eth0"]).connections
    answers = [(one, one.handshake.syn_ack) for one in inner]
    return {
        "later": later,
        "public_addresses": len({one.initiator.address for one in outer}),
        "data_on_syns": sum(
            one.handshake.syn is not None and one.handshake.syn.length > 0 for one in inner
        ),
        "data_taken": sum(
            answer is not None and one.relative_ack(answer) == 1 + _REQUEST_BYTES
            for one, answer in answers
        ),
        "response_ms": statistics.median(times[1:]) * 1000,
    }


def _with_nat(topology: Topology, nat: Nat, pooling: Pooling, timeout: Timeout) -> Topology:
    if nat == "kernel":
        if timeout == "short":
            raise ScenarioError(
                "The kernel's NAT remembers no pairs that could time out: it computes the public "
                "address. Leave mapping_timeout at long, or use nat=testbed."
            )
        return with_kernel_nat(topology, NAT, _RULES[pooling], {})
    changes: dict[str, Any] = {"address_pooling": pooling}
    if timeout == "short":
        changes |= {"mapping_timeout": _SHORT, "transitory_timeout": _SHORT}
    return with_function(topology, NAT, FUNCTION, **changes)


def _await_oblivion(nat: LabNode) -> None:
    """Return when the NAT has forgotten its clients."""
    deadline = time.monotonic() + _PATIENCE
    while nat.function(FUNCTION).counters()["now-pairs"]:
        if time.monotonic() > deadline:
            raise ScenarioError(
                f"The NAT '{nat.name}' still knows its client after {_PATIENCE:g} s, with a "
                f"mapping timeout of {_SHORT:g} s."
            )
        time.sleep(_POLL_SECONDS)
