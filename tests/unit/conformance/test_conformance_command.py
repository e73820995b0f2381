"""The command check: files of both kinds, what it prints, its status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from testbed.cli.app import app
from testbed.conformance import check_trace
from testbed.errors import ConformanceError
from testbed.trace import is_capture, read_trace
from tests.unit.conformance.conftest import TRACES

PROBLEM, CORRECT = TRACES / "2.10-problem.txt", TRACES / "2.10-correct.txt"


def run(*words: str | Path, status: int) -> str:
    result = CliRunner().invoke(app, ["check", *map(str, words)], env={"COLUMNS": "160"})
    assert result.exit_code == status, result.output
    return result.stdout


def test_a_failure_is_shown_with_its_segments_and_gives_status_1():
    shown = run(PROBLEM, status=1)
    assert "A: 1 failed" in shown
    assert "no-rto-backoff (RFC 2525, 2.10): 3 retransmissions in a row" in shown
    assert shown.count("retransmission ──") == 4
    assert "keepalive-timeout-too-short" not in shown


def test_without_a_failure_there_are_counts_and_reasons_if_asked_for():
    assert "1 connection without a failure" in run(CORRECT, status=0)
    shown = run(CORRECT, "--all", status=0)
    assert "pass  no-rto-backoff" in shown
    assert "inconclusive  keepalive-interval-too-short" in shown


def test_one_problem_and_json():
    found = json.loads(run(PROBLEM, "--problem", "no-rto-backoff", "--json", status=1))
    (file,) = found
    assert [one["answer"] for one in file["findings"]] == ["fail", "inconclusive"]
    assert file["findings"][0]["segments"] == [6, 7, 8, 9]
    assert file["findings"][0]["endpoint"] == {"address": "192.0.2.1", "port": 0}


def test_what_is_known_is_told_by_options():
    late = TRACES / "2.15-problem.txt"
    run(late, status=0)
    assert "fin-not-sent-promptly" in run(late, "--plain-close", status=1)
    idle = TRACES / "2.11-problem.txt"
    run(idle, status=0)
    run(idle, "--default-settings", status=1)
    beyond = TRACES / "2.05-problem.txt"
    run(beyond, status=0)
    run(beyond, "--at", "responder", status=1)
    first = TRACES / "2.01-problem.txt"
    run(first, status=0)
    run(first, "--profile", "rfc2525", status=1)


def test_topologies_are_checked_by_the_same_command(tmp_path: Path):
    assert run("docomo", CORRECT, status=0).startswith("docomo: ok (nodes: 3, links: 2)")
    found = json.loads(run("docomo", "--json", status=0))
    assert found == [{"file": "docomo", "links": 2, "nodes": 3}]
    bad = tmp_path / "bad.yaml"
    bad.write_text("nodes: {a: {}}\nlinks: [{endpoints: [a, b]}]\n")
    run(bad, status=1)


def test_files_are_told_apart_by_their_content(tmp_path: Path):
    assert is_capture(PROBLEM)
    assert not is_capture(tmp_path)
    assert not is_capture(tmp_path / "nothing")
    assert not is_capture("topologies/docomo.yaml")
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(b"\x1f\x8b\x08\0")
    assert is_capture(packed)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"problems": ["no-rto-backof"]}, "did you mean 'no-rto-backoff'"),
        ({"profile": "rfc2526"}, "did you mean 'rfc2525'"),
    ],
)
def test_a_wrong_name_is_an_error_that_names_the_nearest(wrong: dict[str, object], words: str):
    with pytest.raises(ConformanceError, match=words):
        check_trace(read_trace(CORRECT), **wrong)  # type: ignore[arg-type]
