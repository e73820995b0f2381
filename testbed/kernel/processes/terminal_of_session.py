"""Runs a program whose standard input is its session's terminal, for job control and Ctrl-C.

A session gets its controlling terminal by an ioctl of its leader, which a program that is executed
does not make by itself. Run as a script by the leader of a session that has none, without the
rest of the project:

    python terminal_of_session.py PROGRAM ARGUMENT...

Source: TIOCSCTTY in ioctl_tty(2).
"""

from __future__ import annotations

import fcntl
import os
import sys
import termios
from pathlib import Path

_NO_SUCH_PROGRAM = 127


def command(argv: list[str]) -> list[str]:
    """The command that runs `argv` so."""
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *argv]


if __name__ == "__main__":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    try:
        os.execv(sys.argv[1], sys.argv[1:])
    except OSError as fault:
        sys.stderr.write(f"{sys.argv[1]}: {fault.strerror}\n")
        sys.exit(_NO_SUCH_PROGRAM)
