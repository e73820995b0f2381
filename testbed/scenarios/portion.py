"""A part of a series, run by a process of its own: `python -m testbed.scenarios.portion FILE`.

The file holds a `Portion` as JSON. What was found goes to the file that it names; a line on
standard output tells each run that begins.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from testbed.errors import ScenarioError, TestbedError
from testbed.kernel.processes import userns
from testbed.kernel.seeds import SEED_VARIABLE
from testbed.loading import load
from testbed.scenarios import registry
from testbed.scenarios.environment import Environment
from testbed.scenarios.result import RunRecord
from testbed.scenarios.runner import Job, carry_out, prepare


class Portion(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of a scenario, the folder of all results, and where to write what was found.

    target: as the user named it. scenario: its name. topology: the file, by an absolute path, so
    that the process need not look for it: what it does before the first run then is the same
    in every folder.
    """

    target: str
    scenario: str
    topology: str
    jobs: list[Job]
    seed: int | None
    folder: str
    answer: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What running a portion gave; error: why it broke off."""

    runs: list[RunRecord] = []
    environment: Environment | None = None
    error: str = ""


def run_portion(portion: Portion) -> Found:
    """Run it in this process."""

    def progress(_done: int, _total: int, what: str) -> None:
        sys.stdout.write(f"{what}\n")
        sys.stdout.flush()

    try:
        userns.enter_if_needed()
        scenario = registry.scenarios()[portion.scenario]
        series = prepare(scenario, load(portion.topology), parameters={}, repeat=None)
        runs, environment = carry_out(
            series, portion.jobs, portion.seed, Path(portion.folder), progress
        )
    except TestbedError as error:
        return Found(error=str(error))
    return Found(runs=runs, environment=environment)


def main() -> None:
    (file,) = sys.argv[1:]
    os.environ.pop(SEED_VARIABLE, None)  # a portion says its seed itself
    portion = msgspec.json.decode(Path(file).read_bytes(), type=Portion)
    Path(portion.answer).write_bytes(msgspec.json.encode(run_portion(portion)))


def read_answer(portion: Portion, status: int, words: str) -> Found:
    """What a process has found that ended with this status and these words on standard error.

    Raises `ScenarioError` for what it broke off with.
    """
    try:
        found = msgspec.json.decode(Path(portion.answer).read_bytes(), type=Found)
    except FileNotFoundError:
        raise ScenarioError(
            f"{len(portion.jobs)} runs of {portion.target} ended with status {status}: {words}"
        ) from None
    if found.error:
        raise ScenarioError(found.error)
    return found


if __name__ == "__main__":
    main()
