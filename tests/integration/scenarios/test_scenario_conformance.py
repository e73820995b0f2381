"""The scenario that judges a TCP, by the real clock: quick problems, with times shortened."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.conformance import Answer
from testbed.errors import ScenarioError
from testbed.scenarios import find, run

QUICK = "keepalive-interval-too-short,no-rst-after-half-duplex-close"


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"implementation": "linux"}, Answer.PASS),
        ({"implementation": "testbed-tcp"}, Answer.PASS),
        ({"implementation": "testbed-tcp", "fault": "own"}, Answer.FAIL),
    ],
)
def test_who_has_the_problem_is_found(given: dict[str, str], answer: Answer, tmp_path: Path):
    outcome = run(*find("conformance"), parameters={"problem": QUICK, **given}, out=tmp_path)
    assert [cell.medians["answer"] for cell in outcome.result.cells] == [answer, answer]
    assert outcome.result.passed
    for one in outcome.result.runs:
        assert (tmp_path / one.captures["subject:eth0"]).exists()
    assert outcome.presentation is not None


def test_what_cannot_be_asked_for_is_refused(tmp_path: Path):
    for given in ({"problem": "no-rto"}, {"fault": "own"}):
        with pytest.raises(ScenarioError, match=r"There is no problem 'no-rto'|can have a fault"):
            run(*find("conformance"), parameters=given, out=tmp_path / next(iter(given)))
