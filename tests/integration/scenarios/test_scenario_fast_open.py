"""The scenario fast-open with real Linux TCP: each policy, and a client that learns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from testbed.lab import Lab
from testbed.scenarios import registry, runner
from testbed.scenarios.result import RunRecord
from testbed.topology.vary import with_function
from testbed.traffic import Responder, fast_open_exchange

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="needs root and /dev/net/tun",
)


def run(folder: Path, repeat: int = 1, **parameters: str) -> dict[tuple[str, ...], RunRecord]:
    """The quickest run for each mode, connection and server; all of them as expected."""
    scenario, topology = registry.find("fast-open")
    outcome = runner.run(
        scenario, topology, parameters=parameters, repeat=repeat, out=folder / "results"
    )
    wrong = [(one.verdict, one.expected) for one in outcome.result.runs]
    assert outcome.result.passed, wrong
    assert outcome.presentation is not None
    shown = outcome.presentation.blocks(100)
    assert len(shown) == (parameters["connection"] == "first") * 2
    names = ("mode", "connection", "server")
    slowest_first = sorted(outcome.result.runs, key=lambda one: -one.measurements["response_ms"])
    return {tuple(one.parameters[name] for name in names): one for one in slowest_first}


def test_only_a_forwarding_box_lets_the_request_ride_on_the_syn(tmp_path):
    runs = run(tmp_path, 3, mode="forward,strip", connection="second", server="cookies")
    rides = runs["forward", "second", "cookies"].measurements
    waits = runs["strip", "second", "cookies"].measurements
    assert rides["syn_data"] == 1 and waits["syn_data"] == 0
    assert rides["response_ms"] < waits["response_ms"]
    assert (rides["forwarded"], waits["stripped"]) == (1, 1)


def test_a_server_without_cookies_and_a_box_that_drops(tmp_path):
    runs = run(tmp_path, mode="forward,drop", connection="first", server="plain")
    asked = runs["forward", "first", "plain"].measurements
    assert asked["forwarded"] == 1
    assert "TFO SYN with cookie request: 1\n" in asked["statistics"]
    late = runs["drop", "first", "plain"].measurements
    assert late["dropped"] == 1  # the SYN that Linux sends a second later asks for no cookie
    assert "TFO packets dropped: 1\n" in late["statistics"]


def test_fast_open_over_ipv6_and_a_policy_that_changes_in_between():
    _, topology = registry.find("fast-open")
    with (
        Lab(with_function(topology, "box", "fast-open", mode="forward")) as lab,
        Responder(lab["server"], address=lab["server"].address6, fast_open=True) as responder,
    ):
        taken = []
        for mode in ("forward", "forward", "strip", "forward"):
            lab["box"].function("fast-open").set(mode=mode)
            found = fast_open_exchange(lab["client"], responder)
            taken.append(found.info.syn_data_acknowledged)
        statistics = lab["box"].statistics("tcp")
        assert lab["box"].counters().missing == 0
    assert taken == [False, True, False, True]
    assert statistics.interface == "outside" and statistics.service_set == "box"
    assert statistics.tfo_syn_with_cookie_request == 1
    assert statistics.tfo_syn_with_cookie == 3
    assert statistics.tfo_packets_stripped == 1
