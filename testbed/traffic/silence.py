"""A connection that is silent for a while and then goes on: what its application gets then."""

from __future__ import annotations

import contextlib
import errno
import http.client
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Literal

import msgspec

from testbed.errors import LabError
from testbed.kernel.netlink.rtnetlink import family_of
from testbed.kernel.tcp_info import TcpInfo, tcp_info
from testbed.lab import LabNode
from testbed.traffic.service import Service, address_of, receive_exactly

_PROBES = 3
_FAILURES: Final = (OSError, EOFError, http.client.HTTPException)


class AfterSilence(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the request that was sent after the silence.

    outcome: the application got its answer, a reset, or an error after it had waited in vain.
    seconds: from the request to that. info: the client's TCP_INFO right before it.
    """

    outcome: Literal["answered", "reset", "timed-out"]
    seconds: float
    info: TcpInfo


def exchange_after_silence(
    client: LabNode,
    server: LabNode,
    *,
    silence: float,
    keepalive: int | None = None,
    give_up: float = 2.0,
    size: int = 100,
    family: int | None = None,
) -> AfterSilence:
    """Exchange `size` bytes over one connection, say nothing for `silence` seconds, and again.

    keepalive: whole seconds after which an idle connection is probed, and again and again; None
    for no probes. give_up: seconds for which data may stay unacknowledged (tcp(7),
    TCP_USER_TIMEOUT). Raises `LabError` when the first exchange fails already.
    """
    address = address_of(server, family)
    accepted: list[socket.socket] = []

    def echo(sock: socket.socket) -> None:
        accepted.append(sock)
        with contextlib.suppress(ConnectionError):
            while data := sock.recv(65536):
                sock.sendall(data)

    def ask(sock: socket.socket) -> None:
        sock.sendall(bytes(size))
        receive_exactly(sock, size)

    with Service(server, echo, address=address) as service:
        try:
            where = address, service.port
            return _ask_twice(client, where, ask, silence, _Patience(keepalive, give_up))
        finally:
            for one in accepted:  # it may never hear that the client is gone
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)


def http_after_silence(
    client: LabNode,
    server: LabNode,
    *,
    silence: float,
    keepalive: int | None = None,
    give_up: float = 2.0,
    port: int = 80,
) -> AfterSilence:
    """The same with a web server that runs in the node, which is asked for `/` twice.

    Raises `LabError` when the first answer is not one of a web server's, status 200.
    """

    def ask(sock: socket.socket) -> None:
        sock.sendall(http_request(server.name))
        answer = http.client.HTTPResponse(sock, method="GET")
        answer.begin()
        answer.read()
        if answer.status != HTTPStatus.OK:
            raise LabError(f"The web server '{server.name}' answered {answer.status}.")

    patience = _Patience(keepalive, give_up)
    return _ask_twice(client, (server.address, port), ask, silence, patience)


def http_request(host: str) -> bytes:
    """A request for `/` by HTTP/1.1, whose connections stay open (RFC 9112 section 9.3)."""
    return f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


class _Patience(msgspec.Struct, frozen=True):
    keepalive: int | None
    give_up: float


def _ask_twice(
    client: LabNode,
    where: tuple[str, int],
    ask: Callable[[socket.socket], None],
    silence: float,
    patience: _Patience,
) -> AfterSilence:
    with client.socket(family_of(where[0])) as sock:
        _prepare(sock, patience)
        try:
            sock.connect(where)
            ask(sock)
        except _FAILURES as error:
            client.check()
            raise LabError(
                f"'{client.name}' got no answer from {where[0]} port {where[1]} before any "
                f"silence: {error}."
            ) from error
        time.sleep(silence)
        info = tcp_info(sock)
        started = time.monotonic()
        outcome = _ask_again(sock, ask)
        seconds = time.monotonic() - started
    return AfterSilence(outcome=outcome, seconds=seconds, info=info)


def _prepare(sock: socket.socket, patience: _Patience) -> None:
    sock.settimeout(10 * patience.give_up)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(patience.give_up * 1000))
    if patience.keepalive is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, patience.keepalive)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, patience.keepalive)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _ask_again(
    sock: socket.socket, ask: Callable[[socket.socket], None]
) -> Literal["answered", "reset", "timed-out"]:
    try:
        ask(sock)
    except (EOFError, http.client.BadStatusLine):
        return "reset"
    except OSError as error:
        if error.errno in (errno.ECONNRESET, errno.EPIPE):
            return "reset"
        return "timed-out"
    return "answered"
