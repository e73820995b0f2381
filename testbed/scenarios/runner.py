"""Runs a scenario: every cell of its matrix, several times, into a folder of results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from testbed.errors import ScenarioError, TopologyError
from testbed.kernel.clock import await_whole_second
from testbed.kernel.seeds import derived
from testbed.scenarios.environment import Environment
from testbed.scenarios.experiment import Experiment
from testbed.scenarios.parameters import parse_assignments
from testbed.scenarios.presentation import Presentation
from testbed.scenarios.registry import Scenario
from testbed.scenarios.result import Asked, Result, RunRecord, cell_of, medians
from testbed.topology.model import Topology

RESULT_FILE = "result.json"
CAPTURES = "captures"  # the folder of all captures, below that of the results

Progress = Callable[[int, int, str], None]


class Outcome(msgspec.Struct, frozen=True):
    """A result, where it was written, and what the scenario shows of it."""

    result: Result
    folder: Path
    presentation: Presentation | None


class Job(msgspec.Struct, frozen=True):
    """One run: the parameters of its cell, the number of the cell, and of the repetition.

    Numbers count from 0.
    """

    cell: dict[str, Any]
    number: int
    repetition: int


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """All runs of a scenario over its matrix: every cell `times` times.

    given: what varies or differs from the defaults, by the wish of the user.
    """

    scenario: Scenario
    topology: Topology
    given: dict[str, tuple[Any, ...]]
    cells: list[dict[str, Any]]
    times: int

    @property
    def jobs(self) -> list[Job]:
        """In the order in which they run: in turn, so that a slow spell strikes all alike."""
        return [
            Job(cell, number, repetition)
            for repetition in range(self.times)
            for number, cell in enumerate(self.cells)
        ]

    def describe(self, job: Job) -> str:
        return ", ".join(f"{name} {job.cell[name]}" for name in self.scenario.grid)


def prepare(
    scenario: Scenario, topology: Topology, parameters: Mapping[str, str], repeat: int | None
) -> Series:
    """What is to be run. Raises `ScenarioError` for bad parameters."""
    given = parse_assignments(scenario.name, scenario.parameters, parameters)
    times = scenario.repeat if repeat is None else repeat
    if times < 1:
        raise ScenarioError(f"A scenario is run once at least, not {times} times.")
    cells = scenario.cells(given)
    return Series(scenario=scenario, topology=topology, given=given, cells=cells, times=times)


def run(
    scenario: Scenario,
    topology: Topology,
    *,
    parameters: Mapping[str, str],
    repeat: int | None = None,
    seed: int | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
    asked: Asked | None = None,
) -> Outcome:
    """Run all cells, `repeat` times each, in this process.

    parameters: text as of `-p name=value[,value]`. seed: of the links, another one following from
    it for each repetition; by default the topology's own. out: the folder of results, which must
    be empty or new; by default a new one under `results/SCENARIO`. progress: called with runs
    done, runs in all, and a description of the next. asked: is kept in the result. Raises
    `ScenarioError` for bad parameters.
    """
    series = prepare(scenario, topology, parameters, repeat)
    folder = fresh_folder(out, scenario.name)
    runs, environment = carry_out(series, series.jobs, seed, folder, progress)
    return finish(series, runs, environment, folder, asked)


def carry_out(
    series: Series,
    jobs: Sequence[Job],
    seed: int | None,
    folder: Path,
    progress: Progress | None = None,
) -> tuple[list[RunRecord], Environment | None]:
    """Run some of a series in this process; the environment is that of the first."""
    runs: list[RunRecord] = []
    environment: Environment | None = None
    for job in jobs:
        if progress is not None:
            progress(len(runs), len(jobs), series.describe(job))
        slug = f"{job.number + 1:02}-{_slug(job.cell, series.scenario)}-{job.repetition + 1}"
        experiment = Experiment(
            _seeded(series.topology, seed, job.repetition),
            folder / CAPTURES / slug,
            observing=environment is None,
        )
        await_whole_second()
        runs.append(_run_once(series.scenario, job.cell, experiment, folder))
        environment = environment or experiment.environment
    return runs, environment


def finish(
    series: Series,
    runs: list[RunRecord],
    environment: Environment | None,
    folder: Path,
    asked: Asked | None,
) -> Outcome:
    """Judge the cells, write `result.json`, and have the scenario present it."""
    scenario = series.scenario
    if environment is None:
        raise ScenarioError(f"The scenario {scenario.name} never ran a lab.")
    result = _judge(series, runs, environment, asked)
    presentation = scenario.present(result, series.topology, folder) if scenario.present else None
    (folder / RESULT_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))
    return Outcome(result, folder, presentation)


def _seeded(topology: Topology, seed: int | None, repetition: int) -> Topology:
    if seed is None:
        return topology
    own = derived(seed, "links", topology.seed, repetition)
    return msgspec.structs.replace(topology, seed=own)


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


def _judge(
    series: Series, runs: list[RunRecord], environment: Environment, asked: Asked | None
) -> Result:
    concluded = []
    for cell in series.cells:
        own = [one for one in runs if one.parameters == cell]
        middle = medians([one.measurements for one in own])
        concluded.append(cell_of(cell, own, series.scenario.judge(cell, middle), middle))
    return Result(
        scenario=series.scenario.name,
        parameters={name: list(values) for name, values in series.given.items()},
        runs=runs,
        cells=concluded,
        passed=all(cell.as_expected for cell in concluded),
        trustworthy=all(cell.trustworthy for cell in concluded),
        environment=environment,
        asked=asked,
    )


def _slug(cell: Mapping[str, Any], scenario: Scenario) -> str:
    return "-".join(str(cell[name]) for name in scenario.grid) or scenario.name


def fresh_folder(out: Path | None, name: str) -> Path:
    """The folder of results: `out`, which must be empty or new, or one named after the time."""
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
