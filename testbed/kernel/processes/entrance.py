"""How a program is started: by itself, or by way of enter.py into a container."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from testbed.errors import CommandFailed, MissingProgram
from testbed.kernel.processes import enter, terminal_of_session
from testbed.kernel.processes.confinement import Confinement


class Entrance(msgspec.Struct, frozen=True):
    """What is executed, with which environment and descriptors.

    told: the descriptor on which enter.py says what goes wrong; hang_up: closes our copy of its
    other end. node: that of the container.
    """

    words: Sequence[str]
    env: Mapping[str, str] | None
    pass_fds: Sequence[int]
    told: int | None = None
    hang_up: Callable[[], None] = lambda: None
    node: str = ""

    def check(self, popen: subprocess.Popen[bytes], words: Sequence[str]) -> None:
        """Wait until the program is executed.

        Raises `MissingProgram` when the container has no such program, `CommandFailed` for
        whatever else is in its way.
        """
        if self.told is None:
            return
        self.hang_up()
        with open(self.told, "rb", closefd=False) as file:
            said = file.read()
        if not said:
            return
        popen.wait()
        fault = json.loads(said)
        if fault["doing"] == "executing" and fault["number"] == errno.ENOENT:
            raise MissingProgram(
                f"There is no program '{words[0]}' in the container of the node '{self.node}'. "
                "Put it into the image."
            )
        raise CommandFailed(words, None, reason=f"not started: {fault['doing']}: {fault['text']}")


@contextlib.contextmanager
def entrance(
    inside: Confinement | None,
    words: Sequence[str],
    env: Mapping[str, str] | None,
    cwd: str | os.PathLike[str] | None,
    pass_fds: Sequence[int],
    *,
    terminal: bool,
) -> Iterator[Entrance]:
    """The way for one program; `inside` None for one that is started by itself.

    terminal: whether its input becomes the session's terminal.
    """
    if inside is None:
        command = terminal_of_session.command(list(words)) if terminal else words
        yield Entrance(command, env, pass_fds)
        return
    with contextlib.ExitStack() as stack:
        told, telling = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, told)
        hang_up = stack.enter_context(contextlib.ExitStack())
        hang_up.callback(os.close, telling)
        order = os.memfd_create("order", os.MFD_CLOEXEC)
        stack.callback(os.close, order)
        folder = None if cwd is None else os.fspath(cwd)
        os.write(order, inside.order(words, env, folder, telling, terminal=terminal))
        os.lseek(order, 0, os.SEEK_SET)
        script = [sys.executable, "-I", "-S", str(Path(enter.__file__).resolve()), str(order)]
        fds = [*pass_fds, order, telling, *inside.joined]
        yield Entrance(script, {}, fds, told, hang_up.close, inside.name)
