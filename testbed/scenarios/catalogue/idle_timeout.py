"""A NAT that forgets silent connections, and keepalive as the cure.

NAT gateways of clouds forget a connection after minutes without a packet (350 s is one provider's
choice; here it is two seconds). Neither end is told. What goes on then comes to nothing, or gets
a reset. Linux as a NAT has a third way: it takes the connection up again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from testbed.errors import ScenarioError
from testbed.middlebox.functions.nat.options import NatOptions
from testbed.scenarios import (
    NAT_LABELS,
    Experiment,
    Judgement,
    Measurements,
    Nat,
    scenario,
    with_kernel_nat,
)
from testbed.scenarios.parameters import Positive
from testbed.topology.model import Topology
from testbed.topology.vary import with_function
from testbed.trace.observations import connection_in
from testbed.traffic import AfterSilence, exchange_after_silence
from testbed.wire.flags import RST

CLIENT, NAT, SERVER = "client", "nat", "server"
FUNCTION = "nat"
ANSWERED, RESET, HANGS = "answered", "reset at once", "hangs until it gives up"

_SIZE = 100
_SECONDS_OF_KEEPALIVE = 1
_GIVE_UP = 1.5

_LOOSE = "net.netfilter.nf_conntrack_tcp_loose"
_ESTABLISHED = "net.netfilter.nf_conntrack_tcp_timeout_established"
# Ruleset and sysctl with which the kernel does the same on a time-out.
_KERNEL = {"silent": ("nat-silent", "0"), "reset": ("nat-reset", "0"), "resume": ("nat", "1")}

OnTimeout = Literal["silent", "reset", "resume"]
Keepalive = Literal["off", "on"]


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """What the application got, and whether its request is in the capture beyond the NAT."""
    expected = {"silent": HANGS, "reset": RESET, "resume": ANSWERED}[parameters["on_timeout"]]
    if parameters["keepalive"] == "on":
        expected = ANSWERED
    outcome = measured["outcome"]
    arrived = measured["bytes_arrived"] == measured["bytes_asked"]
    if outcome == "answered" and arrived:
        verdict = ANSWERED
    elif outcome == "reset" and not arrived and measured["resets"]:
        verdict = RESET
    elif outcome == "timed-out" and not arrived and measured["retransmissions"]:
        verdict = HANGS
    else:
        verdict = f"{outcome}, {measured['bytes_arrived']} bytes arrived"
    return Judgement(verdict, expected)


@scenario(
    "idle-timeout",
    topology="idle-timeout",
    grid={"on_timeout": ("silent", "reset"), "keepalive": ("off", "on")},
    judge=judge,
    columns={
        "nat": "NAT of",
        "on_timeout": "on time-out",
        "keepalive": "keepalive",
        "probes": "probes",
        "outcome_ms": "outcome after (ms)",
        "retransmissions": "retransmissions",
        "resets": "resets",
    },
    labels={
        "nat": NAT_LABELS,
        "on_timeout": {
            "silent": "drops silently",
            "reset": "sends a reset",
            "resume": "takes it up again",
        },
    },
)
def idle_timeout(
    experiment: Experiment,
    on_timeout: OnTimeout = "silent",
    keepalive: Keepalive = "off",
    silence: Positive = 3.0,
    nat: Nat = "testbed",
) -> Measurements:
    """A NAT forgets a connection that is silent for too long; keepalive is the cure.

    silence: seconds between two requests over one connection.
    """
    topology = _with_nat(experiment.topology, nat, on_timeout)
    with experiment.lab(topology) as lab:
        found = exchange_after_silence(
            lab[CLIENT],
            lab[SERVER],
            silence=silence,
            keepalive=_SECONDS_OF_KEEPALIVE if keepalive == "on" else None,
            give_up=_GIVE_UP,
            size=_SIZE,
        )
    return measurements(experiment, found, 2 * _SIZE)


def measurements(experiment: Experiment, found: AfterSilence, asked: int) -> Measurements:
    """What became of two requests of so many bytes together, by the captures, too."""
    inner, outer = (connection_in(experiment.captures[f"{node}:eth0"]) for node in (CLIENT, SERVER))
    return {
        "outcome": found.outcome,
        "outcome_ms": found.seconds * 1000,
        "probes": len(inner.by_initiator.keepalives),
        "retransmissions": len(inner.by_initiator.retransmissions()),
        "resets": sum(bool(one.flags & RST) for one in inner.by_responder.segments),
        "bytes_asked": asked,
        "bytes_arrived": outer.by_initiator.unique_bytes,
    }


def _with_nat(topology: Topology, nat: Nat, on_timeout: OnTimeout) -> Topology:
    if nat == "testbed" and on_timeout == "resume":
        raise ScenarioError(
            "The testbed's NAT begins a session with a SYN only, so it cannot take one up again; "
            "only the kernel's can: -p nat=kernel."
        )
    if nat == "testbed":
        return with_function(topology, NAT, FUNCTION, on_timeout=on_timeout)
    rules, loose = _KERNEL[on_timeout]
    given = [one.options for one in topology.nodes[NAT].functions if one.name == FUNCTION]
    options = msgspec.convert(given[0] if given else {}, NatOptions)
    seconds = math.ceil(options.idle_timeout)
    return with_kernel_nat(topology, NAT, rules, {_LOOSE: loose, _ESTABLISHED: str(seconds)})
