"""The control channel between a lab and its helper processes (emulator, middlebox).

A stream socket pair carries length-prefixed JSON. Each operation is a `Message` struct that both
sides share; file descriptors (TUN/TAP ends) are fields of it and ride along with SCM_RIGHTS. The
parent asks, the child answers: one reply for every request, in order.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, Union, overload

import msgspec

from testbed.errors import LabError, ProcessDied
from testbed.kernel.processes.owner import Owner

_LENGTH = struct.Struct("!I")
_SHOWN = 200  # bytes of a faulty message
_MAX_FDS = 64
_MAX_MESSAGE = 64 << 20

T = TypeVar("T")


class Descriptor:
    """A file descriptor as a field of a message; who receives it gets a descriptor of its own."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


def _operation(class_name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


class Message(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="operation", tag=_operation
):
    """What the parent sends: an operation, named by its class (`AddLink` is `add_link`)."""


Handler: TypeAlias = Callable[[Any], object]


class Reply(msgspec.Struct):
    """What the child sends back: a value, or an error text."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None


_encode_reply = msgspec.json.Encoder().encode
_decode_reply = msgspec.json.Decoder(Reply).decode


def _encode(message: Message) -> tuple[bytes, list[int]]:
    """The text, where descriptors are numbers, and the descriptors by these numbers."""
    fds: list[int] = []

    def number(value: object) -> int:
        if not isinstance(value, Descriptor):
            raise TypeError(f"{value!r} cannot be sent")
        fds.append(value.fileno())
        return len(fds) - 1

    return msgspec.json.encode(message, enc_hook=number), fds


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
        _close(fds)
        raise


def _send(sock: socket.socket, payload: bytes, fds: Sequence[int] = ()) -> None:
    # The descriptors go with the length alone: a short write could otherwise send them twice.
    header = _LENGTH.pack(len(payload))
    if fds:
        socket.send_fds(sock, [header], list(fds))
    else:
        sock.sendall(header)
    sock.sendall(payload)


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


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
        self._owner = Owner()
        self.name = name

    @overload
    def request(self, message: Message, *, timeout: float = 10.0) -> None: ...
    @overload
    def request(self, message: Message, answer: type[T], *, timeout: float = 10.0) -> T: ...
    def request(self, message: Message, answer: Any = None, *, timeout: float = 10.0) -> Any:
        """Send one operation and return the value of its reply, as an `answer`.

        Raises `LabError` with the child's words when it refuses, `ProcessDied` when it is gone
        or silent for `timeout` seconds. A conversation that was broken off is over: the late
        reply would be taken for that to the next request.
        """
        self._owner.check()
        operation = _operation(type(message).__name__)
        with self._lock:
            if self._broken:
                raise ProcessDied(f"{self.name}: an earlier request to it was broken off")
            self._broken = True
            try:
                self._sock.settimeout(timeout)
                _send(self._sock, *_encode(message))
                payload, _ = _receive(self._sock)
            except TimeoutError:
                raise ProcessDied(
                    f"{self.name} did not answer '{operation}' within {timeout:g} s"
                ) from None
            except (EOFError, OSError) as error:
                told = f": {self._last_words()}" if self._last_words is not None else ""
                raise ProcessDied(
                    f"{self.name} ended before it answered '{operation}'{told}"
                ) from error
            self._broken = False
        reply = _decode_reply(payload)
        if reply.error is not None:
            raise LabError(f"{self.name}: {reply.error}")
        return msgspec.json.decode(reply.value, type=answer)

    def close(self) -> None:
        """Hang up: the child sees end of file and ends itself.

        Closing alone would tell the child nothing while a fork of this process has a copy of the
        socket. In a fork, only that copy is closed.
        """
        if self._owner.is_here and self._sock.fileno() >= 0:
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def control_descriptor() -> int:
    """What `--control` names on the command line of a helper process (`start_helper`).

    Ctrl-C reaches every process of the terminal, and is ignored from here on: it is the lab that
    decides when a helper ends.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--control", type=int, required=True, metavar="FD")
    control: int = parser.parse_args().control
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return control


class ControlServer:
    """The child's end, to be put into its event loop: `fileno()` becomes readable on a request.

    handlers: what is called with each kind of message; what it returns is the reply's value.
    """

    def __init__(self, fd: int, handlers: Mapping[type[Message], Handler]) -> None:
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(True)
        self._handlers = handlers
        self._fds: list[int] = []
        self._named: set[int] = set()
        self._decode = msgspec.json.Decoder(
            Union[tuple(handlers)],  # noqa: UP007  (made of what is known only now)
            dec_hook=self._descriptor,
        ).decode

    def fileno(self) -> int:
        return self._sock.fileno()

    def serve_one(self) -> bool:
        """Answer the next request; False when the parent has hung up.

        The descriptors of a message are its handler's to close, unless it raises. A `ValueError`,
        `KeyError`, `OSError` or `LabError` of a handler becomes the reply's error; anything else
        is a bug and ends the process with its traceback.
        """
        try:
            payload, fds = _receive(self._sock)
        except (EOFError, ConnectionError):
            return False
        try:
            message = self._message(payload, fds)
            value = self._handlers[type(message)](message)
            reply = Reply(msgspec.Raw(_encode_reply(value)))
        except (ValueError, KeyError, OSError, LabError) as error:
            _close(fds)
            reply = Reply(error=str(error) or type(error).__name__)
        with contextlib.suppress(ConnectionError):
            _send(self._sock, _encode_reply(reply))
        return True

    def _message(self, payload: bytes, fds: list[int]) -> Message:
        self._fds, self._named = fds, set()
        try:
            message: Message = self._decode(payload)
        except msgspec.ValidationError as fault:
            known = ", ".join(sorted(str(kind.__struct_config__.tag) for kind in self._handlers))
            raise ValueError(
                f"this is no message that is answered here: {payload[:_SHOWN]!r} ({fault}); "
                f"answered are {known}"
            ) from None
        if len(self._named) != len(fds):
            raise ValueError(
                f"a message that names {len(self._named)} descriptors came with {len(fds)}"
            )
        return message

    def _descriptor(self, kind: type, value: Any) -> Any:
        if kind is not Descriptor:
            raise NotImplementedError(f"a message has a field of the type {kind}")
        if not isinstance(value, int) or not 0 <= value < len(self._fds) or value in self._named:
            raise ValueError(f"{value!r} is no descriptor of this message")
        self._named.add(value)
        return Descriptor(self._fds[value])
