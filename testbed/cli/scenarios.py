"""The commands that run scenarios."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.kernel import ClockOption, KernelChoice, KernelOption, SeedOption
from testbed.cli.output import JsonOption, example, print_json, stdout_console
from testbed.errors import ScenarioError

if TYPE_CHECKING:
    from testbed.scenarios.runner import Outcome, Progress


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        "run",
        epilog=example(
            "testbed run docomo",
            "testbed run topologies/docomo.yaml -p path=mobile-2009 --repeat 10",
            "testbed run lossy --clock real --repeat 10",
            "testbed run lossy -p kernel=6.1,6.12",
        ),
    )(run)
    app.command("replay", epilog=example("testbed replay results/docomo/20261128-070000"))(replay)
    app.command("scenarios", epilog=example("testbed scenarios"))(scenarios)


def run(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="SCENARIO|YAML", help="A scenario, or a topology naming one.")
    ],
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "-p", "--parameter", metavar="NAME=VALUE", help="Set a parameter; commas vary it."
        ),
    ] = None,
    repeat: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Run every cell so many times.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder of results, empty or new."),
    ] = None,
    kernel: KernelOption = None,
    clock: ClockOption = None,
    seed: SeedOption = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j",
            "--jobs",
            min=1,
            metavar="N",
            help="Do so many runs at a time: by the virtual clock one for each processor, by the "
            "real one only one, unless told otherwise.",
        ),
    ] = None,
    pull: Annotated[
        bool,
        typer.Option("--pull", help="First have the container engine look for newer images."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Run a scenario over its matrix; exit status 1 when the matrix does not come out."""
    from testbed.scenarios import registry
    from testbed.scenarios.parameters import KERNEL
    from testbed.scenarios.show import render

    choice = context.obj.overridden_by(KernelChoice(kernel, clock, seed))
    scenario, topology = registry.find(target)
    if pull:
        from testbed.lab.kinds.container import pull_images

        pull_images(topology)
    given = _assignments(parameters or [])
    versions = []
    if KERNEL in given and KERNEL not in scenario.parameters:
        versions = given.pop(KERNEL).split(",")
    needs = registry.machine_needs(scenario, topology)
    choice = choice.preferring_virtual(needs, versions)
    with _progress(scenario.name) as progress:
        outcome = _run(
            target,
            choice,
            choice.kernels(versions),
            jobs,
            parameters=given,
            repeat=repeat,
            out=out,
            progress=progress,
        )
    if json:
        print_json(outcome.result)
    else:
        console = stdout_console()
        for block in render(scenario, outcome, console.width):
            console.print(block, soft_wrap=True)
    if not outcome.result.passed:
        raise typer.Exit(1)


def _run(
    target: str,
    choice: KernelChoice,
    kernels: dict[str, str],
    jobs: int | None,
    *,
    parameters: dict[str, str],
    repeat: int | None,
    out: Path | None,
    progress: Progress | None = None,
) -> Outcome:
    """Run the scenario here, or in the kernels and at the pace that are chosen."""
    from testbed.kernel.processes import userns
    from testbed.scenarios import registry, runner
    from testbed.scenarios.elsewhere import Execution, run_elsewhere
    from testbed.scenarios.result import Asked

    if kernels or (jobs or 1) > 1:
        if jobs is None:
            jobs = len(os.sched_getaffinity(0)) if choice.clock == "virtual" else 1
        execution = Execution(
            clock=choice.clock_name, kernels=kernels, seed=choice.seed_in_force, jobs=jobs
        )
        return run_elsewhere(
            target, execution, parameters=parameters, repeat=repeat, out=out, progress=progress
        )
    scenario, topology = registry.find(target)
    userns.enter_if_needed()
    return runner.run(
        scenario,
        topology,
        parameters=parameters,
        repeat=repeat,
        seed=choice.seed,
        out=out,
        progress=progress,
        asked=Asked(
            target=target,
            parameters=parameters,
            repeat=scenario.repeat if repeat is None else repeat,
            clock="real",
            kernels={},
            seed=choice.seed,
        ),
    )


def replay(
    folder: Annotated[
        Path, typer.Argument(metavar="RESULT_DIR", help="What a run by the virtual clock left.")
    ],
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, metavar="N", help="As of `testbed run`.")
    ] = None,
) -> None:
    """Run again what a result says, and prove that it gives the same packets.

    The exit status is 1 where it does not; the first packet that differs is told.
    """
    import tempfile

    from testbed.scenarios import replaying

    asked = replaying.asked_of(folder)
    with tempfile.TemporaryDirectory(prefix="testbed-replay-") as workshop:
        again = Path(workshop) / "again"
        with _progress(asked.target) as progress:
            _run(
                asked.target,
                KernelChoice(clock=asked.clock, seed=asked.seed),
                asked.kernels,
                jobs,
                parameters=asked.parameters,
                repeat=asked.repeat,
                out=again,
                progress=progress,
            )
        comparison = replaying.compare(folder, again)
    stdout_console().print(comparison.text, soft_wrap=True)
    if not comparison.equal:
        raise typer.Exit(1)


def scenarios(json: JsonOption = False) -> None:
    """List the scenarios and their parameters."""
    from rich.table import Table

    from testbed.scenarios import registry

    known = registry.scenarios()
    if json:
        print_json(
            {
                name: {
                    "summary": one.summary,
                    "parameters": {
                        parameter.name: {"default": parameter.default, "choices": parameter.choices}
                        for parameter in one.parameters.values()
                    },
                }
                for name, one in known.items()
            }
        )
        return
    table = Table("scenario", "what it shows", "parameters")
    for name, one in sorted(known.items()):
        described = [
            f"{parameter.name}={'|'.join(map(str, parameter.choices)) or parameter.default}"
            for parameter in one.parameters.values()
        ]
        table.add_row(name, one.summary, "\n".join(described))
    stdout_console().print(table)


def _assignments(given: list[str]) -> dict[str, str]:
    values = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise ScenarioError(f"A parameter is given as NAME=VALUE, not '{text}'.")
        values[name] = value
    return values


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on standard error while there is a terminal to see it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(name, total=None)

        def progress(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{name}: {what}")

        yield progress
