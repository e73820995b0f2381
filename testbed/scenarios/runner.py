"""Runs a scenario: every cell of its matrix, several times, into a folder of results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from testbed.errors import ScenarioError, TopologyError
from testbed.scenarios.environment import Environment
from testbed.scenarios.experiment import Experiment
from testbed.scenarios.parameters import parse_assignments
from testbed.scenarios.presentation import Presentation
from testbed.scenarios.registry import Scenario
from testbed.scenarios.result import Result, RunRecord, cell_of, medians
from testbed.topology.model import Topology

RESULT_FILE = "result.json"

Progress = Callable[[int, int, str], None]


class Outcome(msgspec.Struct, frozen=True):
    """A result, where it was written, and what the scenario shows of it."""

    result: Result
    folder: Path
    presentation: Presentation | None


def run(
    scenario: Scenario,
    topology: Topology,
    *,
    parameters: Mapping[str, str],
    repeat: int | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Run all cells, `repeat` times each, in turn, so that a slow spell strikes all alike.

    parameters: text as of `-p name=value[,value]`. out: the folder of results, which must be
    empty or new; by default a new one under `results/SCENARIO`. progress: called with runs done,
    runs in all, and a description of the next. Raises `ScenarioError` for bad parameters.
    """
    given = parse_assignments(scenario.name, scenario.parameters, parameters)
    cells = scenario.cells(given)
    times = scenario.repeat if repeat is None else repeat
    if times < 1:
        raise ScenarioError(f"A scenario is run once at least, not {times} times.")
    folder = _fresh_folder(out, scenario.name)
    runs: list[RunRecord] = []
    environment: Environment | None = None
    for repetition in range(times):
        for number, cell in enumerate(cells):
            if progress is not None:
                progress(len(runs), times * len(cells), _describe(cell, scenario.grid))
            where = (
                folder / "captures" / f"{number + 1:02}-{_slug(cell, scenario)}-{repetition + 1}"
            )
            experiment = Experiment(topology, where, observing=environment is None)
            runs.append(_run_once(scenario, cell, experiment, folder))
            environment = environment or experiment.environment
    if environment is None:
        raise ScenarioError(f"The scenario {scenario.name} never ran a lab.")
    result = _conclude(scenario, given, cells, runs, environment)
    presentation = scenario.present(result, topology, folder) if scenario.present else None
    (folder / RESULT_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))
    return Outcome(result, folder, presentation)


def _run_once(
    scenario: Scenario, cell: dict[str, Any], experiment: Experiment, folder: Path
) -> RunRecord:
    try:
        measured = scenario.function(experiment, **cell)
    except TopologyError as error:
        raise ScenarioError(
            f"The scenario {scenario.name} cannot run in the topology "
            f"'{experiment.topology.name}': {error}. It is made for topologies such as "
            f"{scenario.topology}.yaml."
        ) from error
    judgement = scenario.judge(cell, measured)
    return RunRecord(
        parameters=cell,
        measurements=measured,
        captures={
            name: str(path.relative_to(folder)) for name, path in experiment.captures.items()
        },
        verdict=judgement.verdict,
        expected=judgement.expected,
        emulator=experiment.emulator,
        trustworthy=experiment.trustworthy,
    )


def _conclude(
    scenario: Scenario,
    given: Mapping[str, tuple[Any, ...]],
    cells: list[dict[str, Any]],
    runs: list[RunRecord],
    environment: Environment,
) -> Result:
    concluded = []
    for cell in cells:
        own = [one for one in runs if one.parameters == cell]
        middle = medians([one.measurements for one in own])
        concluded.append(cell_of(cell, own, scenario.judge(cell, middle), middle))
    return Result(
        scenario=scenario.name,
        parameters={name: list(values) for name, values in given.items()},
        runs=runs,
        cells=concluded,
        passed=all(cell.as_expected for cell in concluded),
        trustworthy=all(cell.trustworthy for cell in concluded),
        environment=environment,
    )


def _describe(cell: Mapping[str, Any], grid: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {cell[name]}" for name in grid)


def _slug(cell: Mapping[str, Any], scenario: Scenario) -> str:
    return "-".join(str(cell[name]) for name in scenario.grid) or scenario.name


def _fresh_folder(out: Path | None, name: str) -> Path:
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ScenarioError(
                f"The folder {out} for the results is not empty. Name another, or remove it."
            )
        out.mkdir(parents=True, exist_ok=True)
        return out
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
        folder = Path("results") / name / f"{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise ScenarioError(f"There are a thousand results of this second under results/{name}.")
