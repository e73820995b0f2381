"""HTTP on a unix socket, for the one user that a lab belongs to.

Requests are bounded in size, number and time. Source: RFC 9112; SO_PEERCRED in unix(7).
"""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import struct
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec

from testbed.errors import TestbedError
from testbed.kernel.processes.process import deadline_in, time_left
from testbed.living.conversation import PROTOCOL, Conversation
from testbed.living.held import HeldLab
from testbed.living.routes import ROUTES
from testbed.living.routing import Document, EndlessDocument, RequestKind, RequestRefused, decoded

LONGEST_BODY: Final = 1 << 20
MOST_AT_ONCE: Final = 64
_PATIENCE_SECONDS = 30.0
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class ApiServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers requests at `path`, each connection in a thread."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_AT_ONCE

    def __init__(self, path: Path, held: HeldLab) -> None:
        self.held = held
        self._room = threading.Semaphore(MOST_AT_ONCE)
        super().__init__(str(path), _Handler, bind_and_activate=False)
        try:
            self.server_bind()
            path.chmod(0o600)  # before anybody can be listened to
            self.server_activate()
        except OSError:
            self.server_close()
            raise

    def drain(self, seconds: float) -> None:
        """Take no more requests, and let those that are being answered be answered."""
        self.shutdown()
        deadline = deadline_in(seconds)
        for _ in range(MOST_AT_ONCE):
            if not self._room.acquire(timeout=time_left(deadline)):
                return

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether it comes from this user, and there is room for it."""
        raw = request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, user, _ = _CREDENTIALS.unpack(raw)
        if user != os.geteuid():
            return _refuse(request, 403, "This lab belongs to another user.")
        if not self._room.acquire(blocking=False):
            return _refuse(request, 503, f"{MOST_AT_ONCE} connections are open already.")
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()


def _refuse(connection: socket.socket, status: int, text: str) -> bool:
    body = msgspec.json.encode({"error": text})
    head = f"HTTP/1.1 {status} Refused\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError):
        connection.send(head.encode() + body, socket.MSG_DONTWAIT)
    return False


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: ApiServer
    protocol_version = default_request_version = "HTTP/1.1"
    timeout = _PATIENCE_SECONDS

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):  # the client is gone
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Clients are told what is wrong; nobody else needs to be."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is no HTTP, or a method that no path has."""
        self.close_connection = True
        self._answer_error(code, message or "This is no request.")

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        try:
            body = self._body()
            path, query = self._target()
            route, names = ROUTES.find(self.command, path)
            wanted = decoded(route, query, body)
            if route.converses:
                self._converse(route, wanted, dict(names))
                return
            answer = route.function(self.server.held, wanted, **names)
        except RequestRefused as error:
            self._answer_error(error.status, str(error))
        except TestbedError as error:
            self._answer_error(409, str(error))
        else:
            self._answer(answer)

    def _body(self) -> bytes:
        """Raises `RequestRefused` for one that is too long, or of unknown length."""
        asked, self.close_connection = self.close_connection, True  # unless it has been read
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdecimal()):
            raise RequestRefused(
                411, "A body comes with its length (Content-Length), in one piece."
            )
        if len(length) > len(str(LONGEST_BODY)) or int(length) > LONGEST_BODY:
            raise RequestRefused(413, f"A body has {LONGEST_BODY} bytes at most.")
        body = self.rfile.read(int(length))
        self.close_connection = asked
        return body

    def _target(self) -> tuple[str, dict[str, str]]:
        """The path and the query of what is asked for. Raises `RequestRefused`."""
        try:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=20))
        except ValueError as error:
            raise RequestRefused(400, f"This is no path with a query: {error}.") from None
        if (last := self.headers.get("Last-Event-ID")) is not None:
            query.setdefault("after", last)
        return parts.path, query

    def _converse(self, route: RequestKind, wanted: Any, names: dict[str, str]) -> None:
        """Switch to the other protocol and do there what is asked for."""
        if self.headers.get("Upgrade", "").lower() != PROTOCOL:
            raise RequestRefused(426, f"Descriptors come with `Upgrade: {PROTOCOL}` only.")
        self.close_connection = True
        self.send_response_only(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", PROTOCOL)
        self.end_headers()
        conversation = Conversation(self.connection)
        try:
            route.function(self.server.held, wanted, conversation=conversation, **names)
        except TestbedError as error:
            conversation.tell(error=str(error))

    def _answer(self, answer: object) -> None:
        if isinstance(answer, EndlessDocument):
            self.close_connection = True
            self._head(200, answer.kind)
            for piece in answer.pieces:
                self.wfile.write(piece.encode())
        elif isinstance(answer, Document):
            self._send(200, answer.kind, answer.text.encode())
        else:
            self._send(200, "application/json", msgspec.json.encode(answer) + b"\n")

    def _answer_error(self, status: int, text: str) -> None:
        self._send(status, "application/json", msgspec.json.encode({"error": text}) + b"\n")

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self._head(status, kind, length=len(body))
        self.wfile.write(body)

    def _head(self, status: int, kind: str, length: int | None = None) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
