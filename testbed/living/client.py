"""Speaking with the holder of a lab, as the command line does."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, overload
from urllib.parse import quote, urlencode

import msgspec

from testbed.errors import LabError
from testbed.kernel.processes.process import await_readable
from testbed.living.conversation import PROTOCOL, Conversation
from testbed.living.events import LabEvent
from testbed.living.records import LabRecord, find_lab

T = TypeVar("T")

_PATIENCE_SECONDS = 30.0
_FAREWELL_SECONDS = 60.0
_LAST_ANSWERS_SECONDS = 5.0  # in which a holder that is ending does so


class LabClient:
    """One lab, by its record; every request has a connection of its own.

    All methods raise `LabError` with the holder's words where it refuses, and where it is gone.
    """

    def __init__(self, record: LabRecord) -> None:
        self.record = record

    @classmethod
    def of(cls, name: str) -> LabClient:
        """That of a running lab. Raises `LabError` that tells which there are."""
        return cls(find_lab(name))

    @overload
    def ask(self, method: str, path: str, body: object = None, *, wait: float = ...) -> Any: ...
    @overload
    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        answer: type[T] = ...,
        *,
        wait: float = ...,
    ) -> T: ...
    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        answer: Any = Any,
        *,
        wait: float = _PATIENCE_SECONDS,
    ) -> Any:
        """The answer to one request, as an `answer`; wait: seconds for it to begin."""
        return msgspec.json.decode(self.bytes(method, path, body, wait), type=answer)

    def text(self, path: str, **query: str) -> str:
        """A document that is no JSON."""
        return self.bytes("GET", f"{path}?{urlencode(query)}").decode()

    def bytes(
        self, method: str, path: str, body: object = None, wait: float = _PATIENCE_SECONDS
    ) -> bytes:
        """The answer as it came; a body of bytes goes as it is, any other as JSON."""
        with contextlib.closing(self._connection(wait)) as connection:
            with self._told():
                connection.request(method, path, None if body is None else _encoded(body))
                response = connection.getresponse()
                data = response.read()
            if response.status != http.client.OK:
                raise LabError(_error_in(data) or f"The holder answered {response.status}.")
            return data

    def _connection(self, wait: float) -> _UnixConnection:
        return _UnixConnection(str(self.record.socket), wait)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say in the lab's terms that a holder does not answer."""
        name = self.record.name
        try:
            yield
        except (FileNotFoundError, ConnectionRefusedError):
            find_lab(name)  # which says that it is gone
            raise LabError(
                f"The lab '{name}' is still being built, or being taken down. Try again."
            ) from None
        except TimeoutError:
            raise LabError(
                f"The holder of the lab '{name}' (process {self.record.pid}) does not answer. "
                f"`testbed down {name}` ends it."
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise LabError(
                f"The holder of the lab '{name}' has ended meanwhile: {error or 'it hung up'}."
            ) from None

    def events(self, after: int | None = None) -> Iterator[LabEvent]:
        """What happens, from now on or after an event, until the lab ends."""
        path = "/events" if after is None else f"/events?after={after}"
        with contextlib.closing(self._connection(_PATIENCE_SECONDS)) as connection, self._told():
            connection.request("GET", path)
            for line in connection.getresponse():
                if line.startswith(b"data: "):
                    yield msgspec.json.decode(line[6:], type=LabEvent)

    @contextlib.contextmanager
    def converse(
        self, path: str, body: object, descriptors: Sequence[int]
    ) -> Iterator[Conversation]:
        """Hand descriptors over, and speak about what is done with them, within the block."""
        with contextlib.closing(self._connection(_PATIENCE_SECONDS)) as connection:
            with self._told():
                upgrade = {"Connection": "Upgrade", "Upgrade": PROTOCOL}
                connection.request("POST", path, _encoded(body), upgrade)
                response = connection.getresponse()
                if response.status != http.client.SWITCHING_PROTOCOLS:
                    raise LabError(_error_in(response.read()) or f"It answered {response.status}.")
                assert connection.sock is not None
                connection.sock.settimeout(None)
                conversation = Conversation(connection.sock)
                conversation.send_descriptors(list(descriptors))
            yield conversation

    def end(self) -> str:
        """Take the lab down and await the end of its holder; what was wrong with it, or empty."""
        complaint = ""
        with contextlib.suppress(ProcessLookupError):
            holder = os.pidfd_open(self.record.pid)
            try:
                try:
                    if self.record.socket.exists():
                        self.ask("DELETE", "/lab", wait=_FAREWELL_SECONDS)
                    else:  # it is still being built
                        signal.pidfd_send_signal(holder, signal.SIGTERM)
                except LabError as error:
                    complaint = str(error)
                    if not await_readable(holder, _LAST_ANSWERS_SECONDS):  # it only did not answer
                        signal.pidfd_send_signal(holder, signal.SIGTERM)
                if not await_readable(holder, _FAREWELL_SECONDS):
                    raise LabError(
                        f"The holder of the lab '{self.record.name}' does not end: {complaint} "
                        f"`kill -9 {self.record.pid}` leaves nothing behind either."
                    )
            finally:
                os.close(holder)
        return complaint


def node_path(node: str, *rest: str) -> str:
    """The path of a node, or of something of it."""
    return "/".join(["/nodes", *(quote(word, safe="") for word in (node, *rest))])


def link_path(a: str, b: str, *rest: str) -> str:
    """The path of a link between two ends, or of something of it."""
    return "/".join(["/links", *(quote(word, safe="") for word in (a, b, *rest))])


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _encoded(body: object) -> bytes:
    if isinstance(body, bytes):
        return body
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        raise LabError("Words for a lab must be UTF-8.") from None


def _error_in(data: bytes) -> str:
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(data, type=dict[str, str]).get("error", "")
    return ""
