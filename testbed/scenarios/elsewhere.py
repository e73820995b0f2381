"""Runs a series in other processes, several at a time, each in a kernel of its own if asked for.

Runs are dealt out in portions. Under the virtual clock a portion always has the same runs, so
that the packets of a run do not depend on how many portions are run at a time.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec

from testbed.errors import ScenarioError
from testbed.kernel.clock import USUAL_SEED, ClockName
from testbed.kernel.seeds import derived
from testbed.scenarios import registry
from testbed.scenarios.parameters import KERNEL
from testbed.scenarios.portion import Found, Portion, read_answer
from testbed.scenarios.result import Asked, RunRecord
from testbed.scenarios.runner import (
    CAPTURES,
    Outcome,
    Progress,
    Series,
    finish,
    fresh_folder,
    prepare,
)

_RUNS_OF_A_BOOT: Final = 6
_PATIENCE: Final = 600  # seconds of silence, by the clock of this machine
_KEPT_ERRORS: Final = 4000


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """How a series is run.

    clock: the clock of the kernels.
    kernels: names of built kernels by what the user calls them, "" for Debian's; empty for this
        machine's own.
    seed: see `Asked`.
    jobs: how many portions are run at a time.
    """

    clock: ClockName
    kernels: dict[str, str]
    seed: int | None
    jobs: int


def run_elsewhere(
    target: str,
    execution: Execution,
    *,
    parameters: Mapping[str, str],
    repeat: int | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Run all cells, as `runner.run` does, but in other processes.

    target: a scenario or the file of a topology. Raises what `runner.run` raises, and
    `ScenarioError` when one of the processes ends without an answer.
    """
    scenario, topology = registry.find(target)
    needs = registry.machine_needs(scenario, topology)
    if execution.kernels and needs:
        raise ScenarioError(
            f"{target} cannot run in another kernel, nor by the virtual clock: {needs}. Use "
            "`--clock real`, without `--kernel`."
        )
    series = prepare(scenario, topology, parameters, repeat)
    folder = fresh_folder(out, scenario.name)
    asked = Asked(
        target=target,
        parameters=dict(parameters),
        repeat=series.times,
        clock=execution.clock,
        kernels=execution.kernels,
        seed=execution.seed,
    )
    captures = folder / CAPTURES
    captures.mkdir()  # by none of the processes: what the first to come had to do would show
    with tempfile.TemporaryDirectory(prefix=".portions-", dir=folder) as scratch:
        tasks = list(_tasks(target, series, execution, folder, Path(scratch)))
        count = sum(len(one.portion.jobs) for one in tasks)
        found = _Pool(execution.jobs, count, progress).run(tasks)
    if not any(captures.iterdir()):
        captures.rmdir()
    several = len(execution.kernels) > 1
    runs = [
        _with_kernel(task.kernel, record) if several else record
        for task, one in zip(tasks, found, strict=True)
        for record in one.runs
    ]
    if several:
        cells = [_named(kernel, cell) for kernel in execution.kernels for cell in series.cells]
        series = msgspec.structs.replace(series, cells=cells)
    return finish(series, runs, found[0].environment, folder, asked)


class _Task(msgspec.Struct, frozen=True):
    """A portion, its file, what the user calls its kernel, and what boots that kernel."""

    portion: Portion
    file: Path
    kernel: str
    boot_command: list[str]


def _tasks(
    target: str, series: Series, execution: Execution, folder: Path, scratch: Path
) -> Iterator[_Task]:
    jobs = series.jobs
    share = -(-len(jobs) // execution.jobs)
    topology = str(registry.topology_file(target))
    size = _RUNS_OF_A_BOOT if execution.clock == "virtual" else share
    for kernel_number, kernel in enumerate(execution.kernels or ("",)):
        for start in range(0, len(jobs), size):
            name = f"{kernel_number}-{start}"
            own = jobs[start : start + size]
            portion = Portion(
                target=target,
                scenario=series.scenario.name,
                topology=topology,
                jobs=[
                    msgspec.structs.replace(
                        job, number=job.number + kernel_number * len(series.cells)
                    )
                    for job in own
                ],
                seed=execution.seed,
                folder=str(folder.resolve()),
                answer=str(scratch.resolve() / f"{name}.answer"),
            )
            file = scratch / f"{name}.json"
            file.write_bytes(msgspec.json.encode(portion))
            yield _Task(portion, file, kernel, _boot_command(execution, kernel, folder, start))


def _boot_command(execution: Execution, kernel: str, folder: Path, start: int) -> list[str]:
    if not execution.kernels:
        return []
    name = execution.kernels[kernel]
    seed = derived(USUAL_SEED if execution.seed is None else execution.seed, "boot", start)
    return [
        *(sys.executable, "-m", "testbed.kernel.uml", "--clock", execution.clock),
        *(("--kernel", name) if name else ()),
        *("--seed", str(seed), "--patience", str(_PATIENCE), "--plain", "-w", str(folder), "--"),
    ]


def _named(kernel: str, cell: Mapping[str, Any]) -> dict[str, Any]:
    return {KERNEL: kernel, **cell}


def _with_kernel(kernel: str, record: RunRecord) -> RunRecord:
    return msgspec.structs.replace(record, parameters=_named(kernel, record.parameters))


class _Pool:
    """Runs tasks, so many at a time, each on a processor of its own as far as they go."""

    def __init__(self, most: int, runs: int, progress: Progress | None) -> None:
        self._runs = runs
        self._begun = 0
        self._progress = progress
        self._running: set[subprocess.Popen[str]] = set()
        self._processors: queue.SimpleQueue[int] = queue.SimpleQueue()
        available = sorted(os.sched_getaffinity(0))
        for number in range(most):
            self._processors.put(available[number % len(available)])
        self._most = most

    def run(self, tasks: list[_Task]) -> list[Found]:
        """All of them, in their order; ends all others when one fails."""
        with ThreadPoolExecutor(self._most) as pool, contextlib.ExitStack() as stack:
            stack.callback(self._end)
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
            return list(pool.map(self._run_one, tasks))

    def _run_one(self, task: _Task) -> Found:
        processor = self._processors.get()
        command = [sys.executable, "-P", "-m", "testbed.scenarios.portion", str(task.file)]
        boot_command = list(task.boot_command)
        if boot_command:
            boot_command[-1:-1] = ["--cpu", str(processor)]
        with tempfile.TemporaryFile("w+") as errors:
            with subprocess.Popen(
                [*boot_command, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as process:
                self._running.add(process)
                assert process.stdout is not None
                for line in process.stdout:
                    self._report(line.strip())
            self._running.discard(process)
            errors.seek(0)
            error_text = errors.read()[-_KEPT_ERRORS:]
        self._processors.put(processor)
        return read_answer(task.portion, process.returncode, error_text)

    def _report(self, line: str) -> None:
        if self._progress is not None:
            self._progress(self._begun, self._runs, line)
        self._begun += 1

    def _end(self) -> None:
        for process in list(self._running):
            process.terminate()
