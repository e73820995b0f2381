"""The command that runs a script of the user's own: exec."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from testbed.cli.kernel import ClockOption, KernelChoice, KernelOption, SeedOption
from testbed.cli.output import example
from testbed.kernel.seeds import SEED_VARIABLE


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        "exec",
        epilog=example("testbed exec --clock virtual examples/first_lab.py"),
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )(execute)


def execute(
    context: typer.Context,
    script: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A Python program.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Its arguments.")] = None,
    write: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="A folder, already there, that the script writes to. In another kernel, what it "
            "writes elsewhere vanishes with that kernel.",
        ),
    ] = None,
    kernel: KernelOption = None,
    clock: ClockOption = None,
    seed: SeedOption = None,
) -> None:
    """Run a Python script that builds labs, in the kernel and by the clock that are chosen."""
    from testbed.kernel.processes import userns
    from testbed.kernel.uml import boot as uml

    command = [sys.executable, str(script), *(arguments or [])]
    choice = context.obj.overridden_by(KernelChoice(kernel, clock, seed))
    bootable = choice.bootable()
    if bootable is None:
        if choice.seed is not None:
            os.environ[SEED_VARIABLE] = str(choice.seed)
        userns.enter_if_needed()
        os.execv(command[0], command)
    raise typer.Exit(uml.run_in_uml(command, kernel=bootable, writable=write or []))
