"""The command that runs something of the user's own, a script or a program in a lab: exec."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from testbed.cli.kernel import HOST, ClockOption, KernelChoice, KernelOption, SeedOption
from testbed.cli.output import example, print_note
from testbed.cli.words import lab_node
from testbed.errors import KernelError, LabError
from testbed.kernel.seeds import SEED_VARIABLE

if TYPE_CHECKING:
    from testbed.kernel.uml.boot import Remains

_SHOWN: Final = 5


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        "exec",
        epilog=example(
            "testbed exec --clock virtual examples/first_lab.py",
            "testbed exec docomo gateway -- ping -c 3 server",
        ),
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )(execute)


def execute(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="SCRIPT [ARGUMENT...] | LAB NODE -- COMMAND...",
            help="A Python program with its arguments, or a program for a node of a running lab.",
            autocompletion=lab_node,
        ),
    ],
    write: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="A folder, already there, that the script writes to. In another kernel, what it "
            "writes elsewhere vanishes with that kernel, and is told.",
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]",
            help="A variable that the script gets in another kernel besides PATH, HOME and "
            "PYTHONPATH.",
        ),
    ] = None,
    tty: Annotated[
        bool, typer.Option("--tty", "-t", help="Give the program in the lab a terminal.")
    ] = False,
    kernel: KernelOption = None,
    clock: ClockOption = None,
    seed: SeedOption = None,
) -> None:
    """Run a Python script that builds labs, in the kernel and by the clock that are chosen; or
    run a program in a node of a lab that `testbed up` has started.

    The exit status is that of the script, or of the program.
    """
    choice = context.obj.overridden_by(KernelChoice(kernel, clock, seed))
    if words[2:3] == ["--"] or not Path(words[0]).is_file():
        raise typer.Exit(_in_lab(words, choice, tty=tty))
    if tty:
        raise LabError("--tty is for programs in a lab; a script has the terminal of this command.")
    _run_script(words, choice, write or [], env or [])


def _in_lab(words: list[str], choice: KernelChoice, *, tty: bool) -> int:
    from testbed.cli.labs import run_in_lab
    from testbed.living.records import running_labs

    if words[0] not in running_labs() and words[2:3] != ["--"]:
        raise LabError(
            f"There is neither a script nor a running lab '{words[0]}'. It is `testbed exec SCRIPT "
            "ARGUMENT...`, or `testbed exec LAB NODE -- COMMAND`; `testbed ls` lists labs."
        )
    if choice.kernel not in (None, HOST):
        raise KernelError("A running lab is in this machine's kernel. Leave out `--kernel`.")
    if len(words) < 2:
        raise LabError(f"In which node? testbed exec {words[0]} NODE -- COMMAND")
    command = words[3:] if words[2:3] == ["--"] else words[2:]
    return run_in_lab(words[0], words[1], command, terminal=tty)


def _run_script(
    words: list[str], choice: KernelChoice, folders: list[Path], variables: list[str]
) -> None:
    from testbed.kernel.processes import userns
    from testbed.kernel.uml import boot as uml

    command = [sys.executable, *words]
    bootable = choice.bootable()
    if bootable is None:
        if choice.seed is not None:
            os.environ[SEED_VARIABLE] = str(choice.seed)
        userns.enter_if_needed()
        os.execv(command[0], command)
    status = uml.run_in_uml(
        command,
        kernel=bootable,
        writable=folders,
        environment=uml.plain_environment(variables),
        afterwards=_tell,
    )
    raise typer.Exit(status)


def _tell(remains: Remains) -> None:
    """Say what a script lost, and what it looked for in vain."""
    if remains.lost:
        shown = remains.lost[:_SHOWN]
        more = len(remains.lost) - len(shown)
        print_note(
            f"What was written to {', '.join(shown)}{f' and {more} more' if more else ''} has "
            "vanished with the kernel. Name a folder that is kept: --write FOLDER."
        )
    if remains.unroutable:
        print_note(
            "The script asked for an address outside of its labs, and this kernel has no network "
            "but theirs. What needs a real one runs by `--clock real`, without `--kernel`."
        )
