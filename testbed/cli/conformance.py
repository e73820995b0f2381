"""The command that puts a kernel's TCP to the test: conformance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli import scenarios
from testbed.cli.kernel import ClockOption, KernelOption, SeedOption
from testbed.cli.output import JsonOption, example

_SCENARIO = "conformance"


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(
        "conformance",
        epilog=example(
            "testbed conformance",
            "testbed conformance --congestion-control reno,cubic,bbr --problem no-rto-backoff",
            "testbed conformance --kernel 6.12 --clock virtual",
            "testbed conformance -p kernel=6.1,6.12",
        ),
    )(conformance)


def conformance(
    context: typer.Context,
    congestion_control: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the kernel (reno); commas vary it."),
    ] = None,
    problem: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only this problem; commas name several."),
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "-p", "--parameter", metavar="NAME=VALUE", help="Of the scenario `conformance`."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of results, empty or new.")
    ] = None,
    kernel: KernelOption = None,
    clock: ClockOption = None,
    seed: SeedOption = None,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, metavar="N", help="As of `testbed run`.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Put the kernel's TCP through the situations in which the 18 problems of RFC 2525 show.

    It is the scenario `conformance`, whose captures are kept. Exit status 1 when a check fails. By
    the real clock time-outs of hours are shortened, which the evidence says.
    """
    given = list(parameters or [])
    for name, value in (("congestion_control", congestion_control), ("problem", problem)):
        if value is not None:
            given.append(f"{name}={value}")
    scenarios.run(
        context,
        _SCENARIO,
        parameters=given,
        out=out,
        kernel=kernel,
        clock=clock,
        seed=seed,
        jobs=jobs,
        json=json,
    )
