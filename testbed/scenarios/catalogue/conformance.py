"""A TCP in the situations in which the 18 known problems of TCPs show (RFC 2525)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from testbed.conformance import Answer, find
from testbed.conformance.situations import (
    SUBJECT,
    Subject,
    carry_out,
    situations,
    topology_for,
)
from testbed.errors import ScenarioError
from testbed.scenarios import (
    Experiment,
    Judgement,
    Measurements,
    Presentation,
    conclude,
    scenario,
)
from testbed.scenarios.result import Result
from testbed.topology.model import Topology
from testbed.topology.vary import with_node

_OWN: Final = "testbed-tcp"


def judge(parameters: Mapping[str, Any], measured: Measurements) -> Judgement:
    """A TCP with the fault must fail. One without may leave the question open, but never fail."""
    verdict = str(measured["answer"])
    if parameters["fault"] == "own":
        return Judgement(verdict, Answer.FAIL)
    expected = verdict if verdict != Answer.FAIL else Answer.PASS
    if parameters["implementation"] == _OWN:
        expected = Answer.PASS
    return Judgement(verdict, expected)


def present(result: Result, topology: Topology, folder: Path) -> Presentation:
    """What came of it, and where the RFCs of 1999 would have it otherwise."""
    answers = [str(cell.medians["answer"]) for cell in result.cells]
    counts = ", ".join(f"{answers.count(one)} {one}" for one in Answer)
    changed = {
        f"  {cell.parameters['problem']}: {cell.medians['rfc2525_evidence']}": None
        for cell in result.cells
        if cell.medians["answer"] == Answer.PASS and cell.medians["rfc2525"] == Answer.FAIL
    }
    if changed:
        counts += ".\n\nBy RFC 2525 and its sources these would fail:\n" + "\n".join(changed)
    return conclude(f"{counts}.", folder)


@scenario(
    "conformance",
    topology="conformance",
    grid={"problem": tuple(situations())},
    judge=judge,
    present=present,
    columns={
        "implementation": "TCP",
        "congestion_control": "congestion control",
        "problem": "problem",
        "evidence": "evidence",
        "frames": "frames",
        "rfc2525": "by RFC 2525",
    },
)
def conformance(
    experiment: Experiment,
    problem: str = "no-rto-backoff",
    implementation: Literal["linux", "testbed-tcp"] = "linux",
    fault: Literal["none", "own"] = "none",
    congestion_control: str = "reno",
) -> Measurements:
    """A TCP in the situations in which the 18 known problems of TCPs show (RFC 2525).

    fault: whether the testbed's own TCP has the problem itself. congestion_control: of Linux.
    """
    known = situations()
    if problem not in known:
        raise ScenarioError(f"There is no problem '{problem}'; there are: {', '.join(known)}.")
    if fault == "own" and implementation != _OWN:
        raise ScenarioError(f"Only -p implementation={_OWN} can have a fault.")
    situation = known[problem]
    base = with_node(experiment.topology, SUBJECT, congestion_control=congestion_control)
    topology = topology_for(base, situation, Subject(implementation, fault == "own"))
    trial = carry_out(situation, lambda: experiment.lab(topology), lambda: experiment.captures)
    shortened = f" (times shortened by {trial.scale})" if trial.scale > 1 else ""
    return {
        "section": find(problem).section,
        "answer": str(trial.subject.answer),
        "evidence": trial.subject.sentence + shortened,
        "frames": _ranges(trial.subject.segments),
        "peer_answer": str(trial.peer.answer),
        "peer_evidence": trial.peer.sentence,
        "rfc2525": str(trial.by_rfc2525.answer),
        "rfc2525_evidence": trial.by_rfc2525.sentence,
    }


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers of frames, those in a row as one: `3, 7-12`."""
    rows: list[list[int]] = []
    for number in sorted(set(numbers)):
        if rows and number == rows[-1][-1] + 1:
            rows[-1][1:] = [number]
        else:
            rows.append([number])
    return ", ".join("-".join(map(str, row)) for row in rows)
