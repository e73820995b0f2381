"""Every fault is found, in nobody else, and Linux has none: at the defaults of all timers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import Lab, load
from testbed.conformance import Answer
from testbed.conformance.situations import Subject, carry_out, situations, topology_for
from testbed.kernel.clock import clock_name

pytestmark = pytest.mark.skipif(
    clock_name() != "virtual", reason="is run by the virtual clock: make test-virtual"
)
LINUX, OURS, FAULTY = Subject("linux"), Subject("testbed-tcp"), Subject("testbed-tcp", fault=True)
# Linux discards the byte of a window probe, so that what comes after that is no question.
UNDECIDED = {("window-probe-deadlock", LINUX)}


@pytest.mark.parametrize("subject", [LINUX, OURS, FAULTY], ids=["linux", "ours", "faulty"])
@pytest.mark.parametrize("problem", situations())
def test_a_problem_is_found_where_it_is(problem: str, subject: Subject, tmp_path: Path):
    situation = situations()[problem]
    topology = topology_for(load("conformance"), situation, subject)
    files: dict[str, Path] = {}

    @contextlib.contextmanager
    def lab() -> Iterator[Lab]:
        with Lab(topology, captures=tmp_path) as running:
            yield running
        files.update({name: one.path for name, one in running.captures.items()})

    trial = carry_out(situation, lab, lambda: files)
    expected = Answer.FAIL if subject.fault else Answer.PASS
    if (problem, subject) in UNDECIDED:
        expected = Answer.INCONCLUSIVE
    assert trial.subject.answer is expected, trial.subject.sentence
    assert trial.subject.segments or not subject.fault
    assert trial.peer.answer is not Answer.FAIL, trial.peer.sentence
    assert trial.scale == 1
