"""Removes the containers of a lab when that has ended, however it did.

The containers are the engine's, so they would outlive the lab's process. This one waits for the
end of that, by a descriptor of it (pidfd_open(2)), or for the end of file on its standard input,
a socket from the lab. Over the socket come descriptors of the containers' first processes (b"c"),
which are killed even where the engine does not answer, and b"s" once the engine owes the lab no
more containers.

Run as a script, without the rest of the project, to be up in 30 ms:

    python keeper.py PIDFD SOCKET LAB

Its status is 0 once no container of the lab is left.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

FIRST_PROCESS, SETTLED = b"c", b"s"
READY = b"."

_LABEL = "testbed.lab"
_SECONDS = 20.0  # for all removals
_STRAGGLERS = 4  # whole seconds in which the engine may come to what the lab had asked for
_AT_ONCE = 8


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)


class _Removal:
    """The engine, asked for the end of one lab's containers."""

    def __init__(self, path: str, lab: str) -> None:
        self._path = path
        self._label = f"{_LABEL}={lab}"

    def _ask(self, method: str, what: str) -> http.client.HTTPResponse:
        connection = _Connection(self._path)
        connection.request(method, what)
        return connection.getresponse()

    def _filters(self, **more: list[str]) -> str:
        return quote(json.dumps({"label": [self._label], **more}))

    def _listed(self) -> list[str]:
        answer = self._ask("GET", f"/containers/json?all=1&filters={self._filters()}")
        return [one["Id"] for one in json.load(answer)]

    def _remove(self, container: str) -> None:
        self._ask("DELETE", f"/containers/{container}?force=1&v=1").read()

    def remove_all(self) -> bool:
        """Remove what there is; whether nothing is left."""
        deadline = time.monotonic() + _SECONDS
        # One that is being started, or removed by somebody else, needs to be asked for again.
        while containers := self._listed():
            if time.monotonic() > deadline:
                return False
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(self._remove, containers))
        return True

    def created_since(self, moment: int) -> Iterator[None]:
        """Come back whenever a container is made or started, for some seconds from a moment on."""
        until = moment + _STRAGGLERS
        what = self._filters(type=["container"], event=["create", "start"])
        yield from (
            None for _ in self._ask("GET", f"/events?since={moment}&until={until}&filters={what}")
        )


def _await_end(lab: socket.socket, owner: int) -> tuple[list[int], bool]:
    """The first processes of containers, once the lab is gone; whether no more can come."""
    processes: list[int] = []
    settled = False
    lab.setblocking(False)
    poll = select.poll()
    poll.register(lab, select.POLLIN)
    poll.register(owner, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        try:
            data, more, _, _ = socket.recv_fds(lab, 1, 4)
        except BlockingIOError:
            if owner in ready:
                return processes, settled
            continue
        except ConnectionError:
            return processes, settled
        if not data:
            return processes, settled
        processes += more
        settled = settled or data == SETTLED


def _kill(processes: list[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)


def main() -> None:
    owner, path, lab_id = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    os.write(1, READY)
    lab = socket.socket(fileno=0)
    processes, settled = _await_end(lab, owner)
    moment = int(time.time())
    _kill(processes)
    removal = _Removal(path, lab_id)
    try:
        gone = removal.remove_all()
        if not settled:
            for _ in removal.created_since(moment):
                gone = removal.remove_all()
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"the container engine at {path} does not answer: {error}")
    sys.exit(0 if gone else "containers are left")


if __name__ == "__main__":
    main()
