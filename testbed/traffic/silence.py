"""A connection that is silent for a while and then goes on: what its application gets then."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from typing import Literal

import msgspec

from testbed.errors import LabError
from testbed.kernel.tcp_info import TcpInfo, tcp_info
from testbed.lab import LabNode
from testbed.traffic.service import Service, address_of, family_of, receive_exactly

_PROBES = 3


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

    with (
        Service(server, echo, address=address) as service,
        client.socket(family_of(address)) as sock,
    ):
        try:
            _prepare(sock, keepalive, give_up)
            try:
                sock.connect((address, service.port))
                sock.sendall(bytes(size))
                receive_exactly(sock, size)
            except (OSError, EOFError) as error:
                client.check()
                raise LabError(
                    f"'{client.name}' got no answer from '{server.name}' before any silence: "
                    f"{error}."
                ) from error
            time.sleep(silence)
            info = tcp_info(sock)
            started = time.monotonic()
            outcome = _ask_again(sock, size)
            seconds = time.monotonic() - started
        finally:
            for one in accepted:  # it may never hear that the client is gone
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
    return AfterSilence(outcome=outcome, seconds=seconds, info=info)


def _prepare(sock: socket.socket, keepalive: int | None, give_up: float) -> None:
    sock.settimeout(10 * give_up)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(give_up * 1000))
    if keepalive is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _ask_again(sock: socket.socket, size: int) -> Literal["answered", "reset", "timed-out"]:
    try:
        sock.sendall(bytes(size))
        receive_exactly(sock, size)
    except OSError as error:
        if error.errno in (errno.ECONNRESET, errno.EPIPE):
            return "reset"
        return "timed-out"
    except EOFError:
        return "reset"
    return "answered"
