"""One request and its response over TCP, each phase timed."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from types import TracebackType

import msgspec

from testbed.errors import LabError
from testbed.kernel.netlink.rtnetlink import family_of
from testbed.kernel.tcp_info import TcpInfo, tcp_info
from testbed.lab import LabNode
from testbed.traffic.service import Service, receive_exactly


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its response; times in seconds.

    connect: from connect() to its return. first_byte, last_byte: from handing the request to
    the kernel to the first and last byte of the response. info: the client's TCP_INFO after it.
    """

    connect: float
    first_byte: float
    last_byte: float
    info: TcpInfo

    @property
    def retransmissions(self) -> int:
        return self.info.total_retrans


class Responder:
    """Answers every request of `request` bytes with `response` bytes, while the block lasts.

    fast_open: accept requests on SYNs, as `Service` does.
    """

    def __init__(
        self,
        node: LabNode,
        *,
        request: int = 512,
        response: int = 512,
        port: int = 0,
        address: str | None = None,
        timeout: float = 30.0,
        fast_open: bool = False,
    ) -> None:
        self.request = request
        self.response = response
        self._answer = b"r" * response
        self._service = Service(
            node, self._serve, port=port, address=address, timeout=timeout, fast_open=fast_open
        )
        self.address = self._service.address
        self.port = self._service.port

    def _serve(self, sock: socket.socket) -> None:
        receive_exactly(sock, self.request)
        sock.sendall(self._answer)
        sock.recv(1)  # the client closes first, so that TIME_WAIT is the client's

    def __enter__(self) -> Responder:
        self._service.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._service.__exit__(kind, error, traceback)


def exchange(
    client: LabNode, responder: Responder, *, handshake_data: bool = False, timeout: float = 30.0
) -> Exchange:
    """Connect to the responder, send its request and await the response.

    handshake_data: let the request ride on the third segment of the handshake. Linux does so
    when quick ACKs are off at connect() (tcp_input.c, tcp_rcv_synsent_state_process) and the
    application writes before the delayed ACK. Raises `LabError` when there is no response in
    `timeout` seconds.
    """
    with client.socket(family_of(responder.address)) as sock:
        sock.settimeout(timeout)
        if handshake_data:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        with _blame(client, responder):
            started = time.monotonic()
            sock.connect((responder.address, responder.port))
            connected = time.monotonic()
            sock.sendall(_request(responder))
            answered, finished = _await_response(sock, responder)
        return Exchange(
            connect=connected - started,
            first_byte=answered - connected,
            last_byte=finished - connected,
            info=tcp_info(sock),
        )


def fast_open_exchange(client: LabNode, responder: Responder, *, timeout: float = 30.0) -> Exchange:
    """Send the request with the SYN where the client has a cookie, and await the response.

    Without a cookie the kernel asks for one and sends the request after the handshake (tcp(7),
    MSG_FASTOPEN). `connect` is how long handing over the request took, and the other times begin
    when that does. Raises `LabError` when there is no response in `timeout` seconds.
    """
    request = _request(responder)
    with client.socket(family_of(responder.address)) as sock:
        # Python makes a socket with a timeout non-blocking, and sendto() would not wait for the
        # handshake then.
        limit = struct.pack("ll", int(timeout), int(timeout % 1 * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        with _blame(client, responder, ", asked with Fast Open"):
            started = time.monotonic()
            sent = sock.sendto(request, socket.MSG_FASTOPEN, (responder.address, responder.port))
            connected = time.monotonic()
            sock.sendall(request[sent:])
            answered, finished = _await_response(sock, responder)
        return Exchange(
            connect=connected - started,
            first_byte=answered - started,
            last_byte=finished - started,
            info=tcp_info(sock),
        )


def _request(responder: Responder) -> bytes:
    return b"q" * responder.request


def _await_response(sock: socket.socket, responder: Responder) -> tuple[float, float]:
    """When the first byte of the response came, and when the last."""
    receive_exactly(sock, 1)
    answered = time.monotonic()
    receive_exactly(sock, responder.response - 1)
    return answered, time.monotonic()


@contextlib.contextmanager
def _blame(client: LabNode, responder: Responder, how: str = "") -> Iterator[None]:
    """Tell a failed exchange by its ends, unless it is the lab that has failed."""
    try:
        yield
    except (OSError, EOFError) as error:
        client.check()
        raise LabError(
            f"No response from {responder.address} port {responder.port} to "
            f"'{client.name}'{how}: {error}."
        ) from error
