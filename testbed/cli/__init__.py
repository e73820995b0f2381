"""The command line: thin, no logic of its own; heavy modules are imported by the commands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from testbed.errors import TestbedError

_INTERRUPTED = 130


def _with_subcommands(command: Any) -> Iterator[Any]:
    yield command
    for one in getattr(command, "commands", {}).values():
        yield from _with_subcommands(one)


def _hide_types_of_flags(command: Any) -> None:
    """An option that takes no value has no type to show in a command's help."""
    import typer

    own_help = command.get_help_option(typer.Context(command, **command.context_settings))
    for option in (*command.params, own_help):
        if getattr(option, "is_flag", False):
            option.metavar = ""


def main() -> None:
    """Run the command in `sys.argv` and exit with its status.

    0: done. 1: it could not be done, or came out bad; the reason is on standard error. 2: the
    command line makes no sense. 130: Ctrl-C. An error that nobody foresaw keeps its traceback.
    """
    try:
        import typer.main

        from testbed.cli.app import app

        command = typer.main.get_command(app)
        for one in _with_subcommands(command):
            _hide_types_of_flags(one)
        command(prog_name="testbed")
    except TestbedError as error:
        from testbed.cli.output import print_error

        print_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
