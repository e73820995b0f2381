"""A TCP server in a node that serves each connection in a thread of its own."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

from testbed.errors import LabError
from testbed.lab import LabNode

_FAST_OPEN_QUEUE = 16


class Service:
    """Listens on `port` of `node` (0: any) while its `with` block lasts.

    serve: called with each accepted socket, which has `timeout` and is closed afterwards; as many
    as there are `workers` are served at once. fast_open: take data on SYNs, where the node's
    net.ipv4.tcp_fastopen allows servers to. What goes wrong in it is raised by `check`, and at
    the end of the block unless that raises itself.
    """

    def __init__(
        self,
        node: LabNode,
        serve: Callable[[socket.socket], None],
        *,
        port: int = 0,
        address: str | None = None,
        timeout: float = 30.0,
        workers: int = 2,
        fast_open: bool = False,
    ) -> None:
        self._listener = node.listen(port, address=address)
        if fast_open:
            self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, _FAST_OPEN_QUEUE)
        self._serve = serve
        self._timeout = timeout
        self._stopping = False
        self._failure: Exception | None = None
        # Each worker accepts and serves by itself: handing a connection over to another thread
        # would cost milliseconds on a busy machine, and they would be measured.
        self._workers = [
            threading.Thread(target=self._work, name="testbed-serve", daemon=True)
            for _ in range(workers)
        ]
        where, number, *_ = self._listener.getsockname()
        self.address: str = where
        self.port: int = number

    def __enter__(self) -> Service:
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):  # the lab has shut it down already
            self._listener.shutdown(socket.SHUT_RDWR)  # ends every accept() (tcp_disconnect)
        for worker in self._workers:
            worker.join()
        self._listener.close()
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise what went wrong on the server's side, if anything did."""
        if self._failure is not None:
            raise LabError(
                f"The server on {self.address} port {self.port}: {self._failure}"
            ) from self._failure

    def _work(self) -> None:
        while not self._stopping:
            try:
                accepted, _ = self._listener.accept()
                with accepted:
                    accepted.settimeout(self._timeout)
                    self._serve(accepted)
            except (OSError, EOFError) as error:
                if self._stopping:
                    return
                self._failure = self._failure or error
                if self._listener.fileno() < 0 or not _listens(self._listener):
                    return


def _listens(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


@contextlib.contextmanager
def patience(sock: socket.socket, seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` from calls on a connected socket in which nothing moves for so long.

    The kernel keeps the time: `settimeout` would have every call preceded by a poll(2).
    """
    whole, rest = divmod(round(seconds * 1e6), 1_000_000)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", whole, rest))
    sock.setblocking(True)
    try:
        yield
    except BlockingIOError:
        raise TimeoutError(f"nothing moved for {seconds:g} s") from None


def address_of(node: LabNode, family: int | None) -> str:
    """The node's first address of a family, or the one that its name stands for."""
    return node.address if family is None else node.first_address(family)


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
