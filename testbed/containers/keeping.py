"""The process that sees to the removal of a lab's containers (keeper.py), from the lab's side."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from testbed.containers import keeper
from testbed.errors import EngineError

_SECONDS: Final = 40.0  # beyond what it allows itself


class Keeper:
    """A process outside the lab's own, so that it outlives that by a moment."""

    def __init__(self, engine: str, lab: str) -> None:
        self._engine = engine
        self._lab = lab
        self._process, self._socket = self._start()

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        owner = os.pidfd_open(os.getpid())
        script = str(Path(keeper.__file__).resolve())
        try:
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", script, str(owner), self._engine, self._lab],
                    stdin=theirs.fileno(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    pass_fds=[owner],
                )
        finally:
            os.close(owner)
        assert process.stdout is not None
        if process.stdout.read(1) != keeper.READY:
            ours.close()
            _, said = process.communicate()
            raise EngineError(f"The keeper of containers did not start: {said.decode()}")
        return process, ours

    def take(self, pidfd: int) -> None:
        """Have it kill this process, the first of a container, in any case."""
        with contextlib.suppress(BrokenPipeError):  # told by `end`
            socket.send_fds(self._socket, [keeper.FIRST_PROCESS], [pidfd])

    def end(self, *, settled: bool) -> None:
        """Have all containers of the lab removed.

        settled: the engine is making none. Raises `EngineError` when some may be left.
        """
        said = self._finish(settled)
        if self._process.returncode < 0:  # somebody has killed it
            self._process, self._socket = self._start()
            said = self._finish(settled)
        if self._process.returncode != 0:
            raise EngineError(
                f"The containers of this lab may not all be removed: {said.decode().strip()}. "
                "Their processes are killed; the next lab with containers removes what is left."
            )

    def _finish(self, settled: bool) -> bytes:
        """Hang up and await its end; what it said."""
        with contextlib.suppress(OSError):
            if settled:
                self._socket.sendall(keeper.SETTLED)
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        _, said = self._process.communicate(timeout=_SECONDS)
        return said
