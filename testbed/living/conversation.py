"""What follows when a request hands over descriptors: JSON, a line each, either way.

The client sends one byte with the descriptors (SCM_RIGHTS in unix(7)); then both sides speak when
they have something to say, until one of them hangs up.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from testbed.errors import LabError

#: As the header `Upgrade` names it.
PROTOCOL: Final = "testbed-descriptors"
_LONGEST_LINE = 64 << 10


class Conversation:
    """One end of it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._heard = b""

    def send_descriptors(self, descriptors: list[int]) -> None:
        socket.send_fds(self._connection, [b"."], descriptors)

    def receive_descriptors(self, count: int) -> list[int]:
        """The descriptors, which are the caller's to close. Raises `LabError` for another count.

        They come soon, or not at all; what follows takes as long as it takes.
        """
        _, found, _, _ = socket.recv_fds(self._connection, 1, count)
        self._connection.settimeout(None)
        if len(found) != count:
            for one in found:
                os.close(one)
            raise LabError(f"{count} descriptors were to come with the first byte: {len(found)}.")
        return found

    def tell(self, **words: Any) -> None:
        """Say something, if the other side still listens."""
        with contextlib.suppress(OSError):
            self._connection.sendall(msgspec.json.encode(words) + b"\n")

    def hear(self, until: int | None = None) -> Iterator[dict[str, Any]]:
        """What the other side says, until it hangs up, or a descriptor becomes readable.

        Raises `LabError` for what is no JSON object, or too long.
        """
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        if until is not None:
            poll.register(until, select.POLLIN)
        while True:
            while b"\n" in self._heard:
                line, _, self._heard = self._heard.partition(b"\n")
                yield _words(line)
            ready = {fd for fd, _ in poll.poll()}
            if until in ready:
                return
            try:
                more = self._connection.recv(4096)
            except ConnectionError:
                return
            self._heard += more
            if not more:
                return
            if len(self._heard) > _LONGEST_LINE:
                raise LabError("A line of a conversation is longer than 64 KiB.")


def _words(line: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LabError(f"A line of a conversation is no JSON object: {error}.") from None
