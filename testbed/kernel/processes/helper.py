"""Helper processes of a lab: an emulator or a middlebox, with its control channel."""

from __future__ import annotations

import contextlib
import socket

from testbed.kernel.namespace import Namespace
from testbed.kernel.processes.control import ControlChannel
from testbed.kernel.processes.group import ProcessGroup
from testbed.kernel.processes.interpreter import module_command, module_environment
from testbed.kernel.processes.process import Process

_LAST_WORDS_SECONDS = 2.0


class Helper:
    """A running helper process; `name` is what error messages call it."""

    def __init__(self, name: str, process: Process, sock: socket.socket) -> None:
        self.name = name
        self.process = process
        self.channel = ControlChannel(sock, name, self.last_words)

    def last_words(self) -> str:
        """How it ended and the last of what it wrote to its standard error."""
        if not self.process.ended_within(_LAST_WORDS_SECONDS):
            return "it hung up, but is still running"
        status = self.process.wait()
        how = f"killed by signal {-status}" if status < 0 else f"status {status}"
        words = self.process.said_last().strip()
        return f"{how}{f', saying: {words}' if words else ''}"


def start_helper(group: ProcessGroup, namespace: Namespace, module: str, name: str) -> Helper:
    """Run `python -m MODULE --control FD` in the namespace, with this very interpreter."""
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as on_error, theirs:
        on_error.callback(ours.close)
        process = group.start(
            namespace,
            module_command(module, "--control", str(theirs.fileno())),
            pass_fds=[theirs.fileno()],
            env=module_environment(),
        )
        on_error.pop_all()
    return Helper(name, process, ours)
