"""The control channel between a lab and its helper processes (emulator, middlebox).

A stream socket pair carries length-prefixed JSON; file descriptors (TUN/TAP ends) ride along
with SCM_RIGHTS. The parent asks, the child answers: one reply for every request, in order.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from testbed.errors import LabError, ProcessDied

_LENGTH = struct.Struct("!I")
_MAX_FDS = 64
_MAX_MESSAGE = 64 << 20

Handler = Callable[[dict[str, Any], list[int]], Any]


class Request(msgspec.Struct):
    """What the parent sends: an operation and its arguments."""

    op: str
    arguments: dict[str, Any] = {}


class Reply(msgspec.Struct):
    """What the child sends back: a value, or an error text."""

    value: Any = None
    error: str | None = None


_encode = msgspec.json.Encoder().encode
_decode_request = msgspec.json.Decoder(Request).decode
_decode_reply = msgspec.json.Decoder(Reply).decode


def _receive_exactly(sock: socket.socket, count: int, fds: list[int]) -> bytes:
    """Read `count` bytes; descriptors that come with them are appended to `fds`.

    Raises EOFError when the other side has closed.
    """
    chunks = []
    while count:
        data, received, _, _ = socket.recv_fds(sock, min(count, 1 << 20), _MAX_FDS)
        fds.extend(received)
        if not data:
            raise EOFError
        chunks.append(data)
        count -= len(data)
    return b"".join(chunks)


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    fds: list[int] = []
    try:
        (length,) = _LENGTH.unpack(_receive_exactly(sock, _LENGTH.size, fds))
        if length > _MAX_MESSAGE:
            raise EOFError
        return _receive_exactly(sock, length, fds), fds
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _send(sock: socket.socket, payload: bytes, fds: Sequence[int] = ()) -> None:
    # The descriptors go with the length alone: a short write could otherwise send them twice.
    header = _LENGTH.pack(len(payload))
    if fds:
        socket.send_fds(sock, [header], list(fds))
    else:
        sock.sendall(header)
    sock.sendall(payload)


class ControlChannel:
    """The parent's end. Safe between threads.

    name says whom it talks to in error messages; `last_words` tells what is known of its end.
    """

    def __init__(
        self, sock: socket.socket, name: str, last_words: Callable[[], str] | None = None
    ) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._last_words = last_words
        self._broken = False
        self.name = name

    def request(
        self, op: str, *, fds: Sequence[int] = (), timeout: float = 10.0, **arguments: Any
    ) -> Any:
        """Send one operation and return the value of its reply.

        Raises `LabError` with the child's words when it refuses, `ProcessDied` when it is gone
        or silent for `timeout` seconds. A conversation that was broken off is over: the late
        reply would be taken for that to the next request.
        """
        with self._lock:
            if self._broken:
                raise ProcessDied(f"{self.name}: an earlier request to it was broken off")
            self._broken = True
            try:
                self._sock.settimeout(timeout)
                _send(self._sock, _encode(Request(op, arguments)), fds)
                payload, _ = _receive(self._sock)
            except TimeoutError:
                raise ProcessDied(
                    f"{self.name} did not answer '{op}' within {timeout:g} s"
                ) from None
            except (EOFError, OSError) as error:
                told = f": {self._last_words()}" if self._last_words is not None else ""
                raise ProcessDied(f"{self.name} ended before it answered '{op}'{told}") from error
            self._broken = False
        reply = _decode_reply(payload)
        if reply.error is not None:
            raise LabError(f"{self.name}: {reply.error}")
        return reply.value

    def close(self) -> None:
        """Hang up: the child sees end of file and ends itself."""
        self._sock.close()


class ControlServer:
    """The child's end, to be put into its event loop: `fileno()` becomes readable on a request."""

    def __init__(self, fd: int, handlers: Mapping[str, Handler]) -> None:
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(True)
        self._handlers = handlers

    def fileno(self) -> int:
        return self._sock.fileno()

    def serve_one(self) -> bool:
        """Answer the next request; False when the parent has hung up.

        A handler gets the arguments and the descriptors, which are its own to close. A
        `ValueError`, `KeyError`, `OSError` or `LabError` of a handler becomes the reply's error;
        anything else is a bug and ends the process with its traceback.
        """
        try:
            payload, fds = _receive(self._sock)
        except (EOFError, ConnectionError):
            return False
        request = _decode_request(payload)
        handler = self._handlers.get(request.op)
        if handler is None:
            reply = Reply(error=f"unknown operation '{request.op}'")
            for fd in fds:
                os.close(fd)
        else:
            try:
                reply = Reply(handler(request.arguments, fds))
            except (ValueError, KeyError, OSError, LabError) as error:
                reply = Reply(error=str(error) or type(error).__name__)
        with contextlib.suppress(ConnectionError):
            _send(self._sock, _encode(reply))
        return True
