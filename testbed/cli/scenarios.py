"""The commands that run scenarios."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.output import JsonOption, example, print_json, stdout_console
from testbed.errors import ScenarioError


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        "run",
        epilog=example(
            "testbed run docomo",
            "testbed run topologies/docomo.yaml -p path=mobile-2009 --repeat 10",
        ),
    )(run)
    app.command("scenarios", epilog=example("testbed scenarios"))(scenarios)


def run(
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
    json: JsonOption = False,
) -> None:
    """Run a scenario over its matrix; exit status 1 when the matrix does not come out."""
    from testbed.kernel.processes import userns
    from testbed.scenarios import registry, runner
    from testbed.scenarios.show import render

    scenario, topology = registry.find(target)
    userns.enter_if_needed()
    with _progress(scenario.name) as progress:
        outcome = runner.run(
            scenario,
            topology,
            parameters=_assignments(parameters or []),
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
