"""A TCP server in a node that serves each connection in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType

from testbed.errors import LabError
from testbed.lab import Node

_ACCEPT_POLL = 0.2


class Service:
    """Listens on `port` of `node` (0: any) while its `with` block lasts.

    serve: called with each accepted socket, which has `timeout` and is closed afterwards. What
    goes wrong in it is raised by `check`, and at the end of the block unless that raises itself.
    """

    def __init__(
        self,
        node: Node,
        serve: Callable[[socket.socket], None],
        *,
        port: int = 0,
        address: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._listener = node.listen(port, address=address)
        self._serve = serve
        self._timeout = timeout
        self._stopping = threading.Event()
        self._failure: Exception | None = None
        self._workers: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, name="testbed-accept", daemon=True)
        where, number, *_ = self._listener.getsockname()
        self.address: str = where
        self.port: int = number

    def __enter__(self) -> Service:
        self._acceptor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._acceptor.join()
        self._listener.close()
        for worker in self._workers:
            worker.join()
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise what went wrong on the server's side, if anything did."""
        if self._failure is not None:
            raise LabError(
                f"The server on {self.address} port {self.port}: {self._failure}"
            ) from self._failure

    def _accept(self) -> None:
        # A listener that is closed does not wake a thread that waits in accept().
        self._listener.settimeout(_ACCEPT_POLL)
        while not self._stopping.is_set():
            try:
                accepted, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                self._failure = self._failure or error
                return
            worker = threading.Thread(target=self._work, args=(accepted,), daemon=True)
            self._workers.append(worker)
            worker.start()

    def _work(self, accepted: socket.socket) -> None:
        with accepted:
            accepted.settimeout(self._timeout)
            try:
                self._serve(accepted)
            except (OSError, EOFError) as error:
                self._failure = self._failure or error


def receive_exactly(sock: socket.socket, count: int) -> bytes:
    """Read `count` bytes; raises EOFError when the other side ends before."""
    data = bytearray(count)
    view = memoryview(data)
    got = 0
    while got < count:
        more = sock.recv_into(view[got:])
        if not more:
            raise EOFError(f"the connection ended after {got} of {count} bytes")
        got += more
    return bytes(data)
