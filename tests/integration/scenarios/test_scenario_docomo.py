"""The docomo case from end to end: matrix, captures, ladder, figures, exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tolerance import tolerance

from testbed.kernel.processes.userns import needed
from testbed.scenarios.registry import find
from testbed.scenarios.runner import run
from testbed.trace import read_trace

pytestmark = pytest.mark.skipif(needed(), reason="building labs needs privileges")


ROUND_TRIP_MS = 20
REPEAT = 3  # medians: the machine may stall during a run


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    scenario, topology = find("docomo")
    return run(
        scenario,
        topology,
        parameters={},
        repeat=REPEAT,
        out=tmp_path_factory.mktemp("docomo") / "results",
    )


@pytest.mark.smoke
def test_only_the_faulty_cell_is_late(outcome):
    verdicts = {
        (cell.parameters["proxy"], cell.parameters["handshake"]): cell.verdict
        for cell in outcome.result.cells
    }
    assert verdicts.pop(("drop", "data")) == "one second late"
    assert set(verdicts.values()) == {"on time"} and len(verdicts) == 6
    assert outcome.result.passed


def test_the_healthy_cells_take_one_round_trip(outcome):
    healthy = [cell for cell in outcome.result.cells if cell.verdict == "on time"]
    late = [float(cell.medians["request_to_response_ms"]) - ROUND_TRIP_MS for cell in healthy]
    assert len(late) == 6
    assert min(late) >= 0
    assert max(late) < tolerance(ROUND_TRIP_MS, virtual=0.02)


def test_the_second_is_one_retransmission_of_the_handshakes_data(outcome):
    faulty, *_ = outcome.result.runs_of(proxy="drop", handshake="data")
    assert faulty.measurements["retransmissions"] == 1
    (at_gateway,) = read_trace(outcome.folder / faulty.captures["gateway:eth0"]).connections
    (at_server,) = read_trace(outcome.folder / faulty.captures["server:eth0"]).connections
    first = at_gateway.handshake.ack
    (again,) = at_gateway.by_initiator.retransmissions()
    assert first.length == again.length > 0
    assert 0.95e9 < again.time - first.time < 1.3e9
    # What the server saw was sent once: the router kept the first copy to itself.
    assert not at_server.retransmissions()
    assert at_server.by_initiator.payload_bytes == first.length
    assert at_gateway.by_initiator.payload_bytes == 2 * first.length


def test_the_cure_works_in_the_running_lab(outcome):
    (cured,) = (cell for cell in outcome.result.cells if cell.parameters["proxy"] == "cured")
    before = float(cured.medians["before_cure_ms"])
    after = float(cured.medians["request_to_response_ms"])
    assert before - after > 900


def test_the_ladders_show_the_fault_and_the_healthy_run(outcome):
    (shown, *_) = outcome.presentation.blocks(200)
    text = str(shown)
    assert "dropped by router" in text and "retransmission" in text and "of silence" in text
    svg = ElementTree.parse(outcome.presentation.files["ladder"])
    words = "".join(svg.getroot().itertext())
    assert words.count("dropped by router") == 1 and "Without the proxy" in words


def test_everything_is_written(outcome):
    for path in outcome.presentation.files.values():
        assert path.exists(), path
    written = json.loads((outcome.folder / "result.json").read_text())
    assert written["scenario"] == "docomo" and len(written["runs"]) == REPEAT * 7
    for one in written["runs"]:
        assert {"parameters", "measurements", "captures", "verdict"} <= one.keys()
        assert all((outcome.folder / path).is_file() for path in one["captures"].values())
    assert {"kernel", "versions", "sysctls", "git_revision"} <= written["environment"].keys()
    assert written["environment"]["congestion_control"]["gateway"] == "reno"


def test_the_same_second_without_any_knob(tmp_path):
    scenario, topology = find("docomo")
    given = {"path": "mobile-2009", "proxy": "drop"}
    result = run(scenario, topology, parameters=given, repeat=1, out=tmp_path / "results").result
    assert [cell.verdict for cell in result.cells] == ["one second late", "on time"]


@pytest.mark.smoke
def test_a_matrix_that_does_not_come_out_ends_with_status_1(tmp_path):
    """With the kernel's usual minimum RTO, the fault costs a fifth of a second, not one."""
    text = Path("topologies/docomo.yaml").read_text()
    assert "rto_min: 1s" in text
    changed = tmp_path / "hasty.yaml"
    changed.write_text(text.replace("rto_min: 1s", "rto_min: 200ms"))
    command = [sys.executable, "-m", "testbed", "run", str(changed), "--clock=real"]
    command += ["-p", "proxy=drop", "--repeat", "1", "--out", str(tmp_path / "results")]
    wide = {**os.environ, "COLUMNS": "160"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=wide
    )
    assert done.returncode == 1, done.stderr
    assert "ms late, expected: one second late" in done.stdout
    assert "1 of 2 cells are not as expected" in done.stdout
