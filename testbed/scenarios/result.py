"""What running a scenario gives: every run, the cells they make up, and the environment."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import msgspec

from testbed.kernel.clock import ClockName
from testbed.scenarios.environment import Environment
from testbed.scenarios.judgement import Judgement, Measurements


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one cell; captures are paths relative to the result's folder.

    emulator: how late the link emulator was, percentiles in us; trustworthy: False where that is
    more than the topology's `max_lateness` allows.
    """

    parameters: dict[str, Any]
    measurements: Measurements
    captures: dict[str, str]
    verdict: str
    expected: str
    emulator: dict[str, float] = {}
    trustworthy: bool = True


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """All runs with the same parameters: medians, and the judgement of these.

    trustworthy: False if that can be said of one of the runs.
    """

    parameters: dict[str, Any]
    runs: int
    medians: Measurements
    verdict: str
    expected: str
    trustworthy: bool = True

    @property
    def as_expected(self) -> bool:
        return self.verdict == self.expected


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for, enough to run it again.

    target: a scenario or the file of a topology. parameters: text as of `-p`. kernels: names of
    built kernels by what the user calls them, "" for Debian's, none for the machine's own. seed:
    of everything under the virtual clock, under the real one of the links; None for the
    topology's own.
    """

    target: str
    parameters: dict[str, str]
    repeat: int
    clock: ClockName
    kernels: dict[str, str]
    seed: int | None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A finished scenario; this, as JSON, is `result.json`.

    asked: None where no command line asked for it.
    """

    scenario: str
    parameters: dict[str, Any]
    runs: list[RunRecord]
    cells: list[Cell]
    passed: bool
    trustworthy: bool = True
    environment: Environment
    asked: Asked | None = None

    def runs_of(self, **parameters: Any) -> list[RunRecord]:
        """The runs whose parameters have these values."""
        return [run for run in self.runs if parameters.items() <= run.parameters.items()]


def medians(all_measurements: list[Measurements]) -> Measurements:
    """The median of each number; of texts, the commonest."""
    first = all_measurements[0]
    found: Measurements = {}
    for name, example in first.items():
        values = [one[name] for one in all_measurements]
        if isinstance(example, str):
            found[name] = statistics.mode(values)
        else:
            found[name] = statistics.median(float(value) for value in values)
    return found


def cell_of(
    parameters: Mapping[str, Any], runs: list[RunRecord], judgement: Judgement, middle: Measurements
) -> Cell:
    """The cell that these runs make up."""
    return Cell(
        parameters=dict(parameters),
        runs=len(runs),
        medians=middle,
        verdict=judgement.verdict,
        expected=judgement.expected,
        trustworthy=all(run.trustworthy for run in runs),
    )
