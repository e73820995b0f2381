"""The command line: thin, no logic of its own; heavy modules are imported by the commands."""

from __future__ import annotations

import sys
from typing import Any

from testbed.errors import TestbedError

_INTERRUPTED = 130


def hide_types_of_flags(command: Any, parent: Any = None) -> None:
    """An option that takes no value has no type to show in help; of a command and those below it.

    parent: the context above; the command's own option for help keeps the names that it has there.
    """
    import typer

    context = typer.Context(command, parent=parent, **command.context_settings)
    for option in (*command.params, command.get_help_option(context)):
        if getattr(option, "is_flag", False):
            option.metavar = ""
    for one in getattr(command, "commands", {}).values():
        hide_types_of_flags(one, context)


def main() -> None:
    """Run the command in `sys.argv` and exit with its status.

    0: done. 1: it could not be done, or came out bad; the reason is on standard error. 2: the
    command line makes no sense. 130: Ctrl-C. An error that nobody foresaw keeps its traceback.
    """
    try:
        import typer.main

        from testbed.cli.app import app

        command = typer.main.get_command(app)
        hide_types_of_flags(command)
        command(prog_name="testbed")
    except TestbedError as error:
        from testbed.cli.output import print_error

        print_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
