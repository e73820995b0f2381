"""The code under test: a client that fetches bytes from a server, and gives up in time."""

from __future__ import annotations

import socket
import sys
import threading
import time

PORT = 4000


def content(size: int) -> bytes:
    """What the server sends when asked for so many bytes."""
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


class Client:
    """Asks one server, over one connection, and opens another one when that fails."""

    def __init__(self, host: str, *, patience: float = 5.0) -> None:
        self.host = host
        self.patience = patience
        self._connection: socket.socket | None = None

    def fetch(self, size: int, *, attempts: int = 1) -> bytes:
        """So many bytes of the server. Raises TimeoutError or ConnectionError after the last
        attempt; each takes `patience` seconds at most."""
        while True:
            attempts -= 1
            try:
                return self._fetch(size, time.monotonic() + self.patience)
            except (TimeoutError, ConnectionError):
                self.close()
                if attempts <= 0:
                    raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _fetch(self, size: int, deadline: float) -> bytes:
        if self._connection is None:
            self._connection = socket.create_connection((self.host, PORT), timeout=self.patience)
        self._connection.sendall(b"%d\n" % size)
        found = b""
        while len(found) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{len(found)} of {size} bytes after {self.patience:g} s")
            self._connection.settimeout(left)
            more = self._connection.recv(65536)
            if not more:
                raise ConnectionError(f"{self.host} has closed after {len(found)} of {size} bytes")
            found += more
        return found


def fetch_once(host: str, size: int, patience: float = 5.0) -> bytes:
    """So many bytes, over a connection of their own."""
    client = Client(host, patience=patience)
    try:
        return client.fetch(size)
    finally:
        client.close()


def serve() -> None:
    """The server, for ever."""
    with socket.create_server(("", PORT)) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with connection, connection.makefile("rb") as questions:
        for question in questions:
            connection.sendall(content(int(question)))


if __name__ == "__main__":
    sys.exit(serve())
