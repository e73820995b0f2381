"""The command line: thin, no logic of its own; heavy modules are imported by the commands."""

from __future__ import annotations

import sys

from testbed.errors import TestbedError

_INTERRUPTED = 130


def main() -> None:
    """Run the command in `sys.argv` and exit with its status.

    0: done. 1: it could not be done, or came out bad; the reason is on standard error. 2: the
    command line makes no sense. 130: Ctrl-C. An error that nobody foresaw keeps its traceback.
    """
    try:
        import typer.main

        from testbed.cli.app import app

        command = typer.main.get_command(app)
        command(prog_name="testbed")
    except TestbedError as error:
        from testbed.cli.output import print_error

        print_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
