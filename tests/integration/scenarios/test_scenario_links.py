"""The scenarios about links, each on a part of its matrix."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from testbed.kernel.clock import waits_are_exact
from testbed.scenarios import registry, runner
from testbed.scenarios.catalogue.lte_trace import offered_bits
from testbed.scenarios.catalogue.satellite import flights
from testbed.scenarios.result import Result
from testbed.scenarios.show import render
from testbed.topology.model import RateTrace
from testbed.topology.vary import with_link

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="needs root and /dev/net/tun",
)


def run(name: str, folder: Path, repeat: int = 1, **parameters: str) -> tuple[Result, str]:
    """The result, all as expected, and what the terminal shows."""
    scenario, topology = registry.find(name)
    outcome = runner.run(
        scenario, topology, parameters=parameters, repeat=repeat, out=folder / "results"
    )
    console = Console(width=200, record=True, file=io.StringIO())
    for block in render(scenario, outcome, 200):
        console.print(block)
    wrong = [(one.measurements, one.verdict) for one in outcome.result.runs]
    assert outcome.result.passed, wrong
    return outcome.result, console.export_text()


def measured(result: Result, name: str) -> list[float]:
    return [float(cell.medians[name]) for cell in result.cells]


def test_lossy_bbr_carries_several_times_what_reno_does(tmp_path):
    result, shown = run(
        "lossy", tmp_path, congestion_control="reno,bbr", losses="random", seconds="1.5"
    )
    reno, bbr = measured(result, "goodput_mbit")
    assert bbr > 2 * reno
    assert "Each congestion control meets the same loss rate" in shown


def test_bufferbloat_red_and_codel_take_seconds_of_queue_away(tmp_path):
    result, shown = run("bufferbloat", tmp_path)
    tail, red, codel = measured(result, "rtt_ms")
    assert tail > 1000
    assert tail > 4 * max(red, codel)
    assert measured(result, "dropped")[0] == 0
    assert min(measured(result, "goodput_mbit")) > 1.5
    assert "red brings it down" in shown


def test_satellite_counts_round_trips(tmp_path):
    result, _ = run("satellite", tmp_path, initcwnd="32")
    usual, small = measured(result, "round_trips")
    assert small > usual + 0.5


def test_lfn_a_window_for_each_round_trip(tmp_path):
    result, shown = run("lfn", tmp_path, 3, window="scaled,unscaled", seconds="1.5")
    _, unscaled = measured(result, "goodput_mbit")
    # The best: where the machine stalls, slow start ends too soon.
    scaled = max(run.measurements["goodput_mbit"] for run in result.runs_of(window="scaled"))
    assert scaled > 2 * unscaled
    assert unscaled * 1e6 < 65535 * 8 / 0.1
    assert measured(result, "largest_window")[1] <= 65535
    assert "limited by the window" in shown


def test_lte_trace_carries_no_more_than_the_trace_offers(tmp_path):
    result, _ = run("lte-trace", tmp_path, congestion_control="cubic", seconds="3")
    assert 60 < measured(result, "used_percent")[0] < 110


def test_flaky_tcp_stays_silent_after_the_outage(tmp_path):
    result, _ = run("flaky", tmp_path, outage="1.0")
    assert measured(result, "dead_after_ms")[0] > 20
    assert measured(result, "backoff")[0] >= 1
    assert measured(result, "lost")[0] >= 2


@pytest.mark.smoke
@pytest.mark.skipif(waits_are_exact(), reason="by the virtual clock nothing is late")
def test_a_result_of_a_late_emulator_says_so(tmp_path):
    scenario, topology = registry.find("satellite")
    impatient = msgspec.structs.replace(topology, max_lateness=1e-9)
    outcome = runner.run(
        scenario,
        with_link(impatient, "client", "server", delay=0.05),
        parameters={"initcwnd": "32", "receive_buffer": "ample", "size": "40000"},
        out=tmp_path / "results",
    )
    assert not outcome.result.trustworthy
    written = json.loads((outcome.folder / "result.json").read_text())
    assert written["trustworthy"] is False
    assert written["runs"][0]["trustworthy"] is False
    assert written["runs"][0]["emulator"]["late_us_p99"] > 0
    console = Console(width=200, record=True, file=io.StringIO())
    for block in render(scenario, outcome, 200):
        console.print(block)
    shown = console.export_text()
    assert "(not trustworthy)" in shown
    assert "handed packets over later than `max_lateness` allows" in shown


def test_slow_start_by_hand():
    assert [flights(n, 10) for n in (1, 10, 11, 30, 31, 90)] == [1, 1, 2, 2, 3, 4]


def test_what_a_trace_offers():
    trace = RateTrace((1, 1, 4, 10))
    packets = [offered_bits(trace, s) / (1514 * 8) for s in (0.0005, 0.001, 0.01, 0.011, 0.1)]
    assert packets == [0, 2, 4, 6, 40]
