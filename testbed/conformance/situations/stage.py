"""The stage of a situation: two nodes, the path between them, and what can be done there."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from testbed.lab import Lab, LabNode
from testbed.lab.userspace_tcp import StreamSocket

SUBJECT, PATH, PEER = "subject", "path", "peer"
_PORT: Final = 7
_PATIENCE: Final = 30.0  # seconds for what should not take long
_CHUNK: Final = 1 << 16


class Ends(NamedTuple):
    """The sockets of a connection."""

    subject: StreamSocket
    peer: StreamSocket


class Stage:
    """A running lab with a subject and a peer.

    scale: by how much time-outs are shortened; 1 leaves the defaults alone.
    """

    def __init__(self, lab: Lab, scale: int) -> None:
        self.lab = lab
        self.scale = scale
        self._sockets: list[StreamSocket] = []

    @property
    def subject(self) -> LabNode:
        return self.lab[SUBJECT]

    @property
    def peer(self) -> LabNode:
        return self.lab[PEER]

    def connect(
        self,
        prepare_peer: Callable[[StreamSocket], None] = lambda sock: None,
        prepare_subject: Callable[[StreamSocket], None] = lambda sock: None,
    ) -> Ends:
        """A connection that the subject opens."""
        listener, client = self.peer.tcp_socket(), self.subject.tcp_socket()
        self._sockets += [listener, client]
        for sock in (listener, client):
            sock.settimeout(_PATIENCE)
        prepare_peer(listener)
        prepare_subject(client)
        listener.bind((self.peer.address, _PORT))
        listener.listen()
        client.connect((self.peer.address, _PORT))
        accepted, _ = listener.accept()
        accepted.settimeout(_PATIENCE)
        self._sockets.append(accepted)
        return Ends(client, accepted)

    def drop(self, toward: str, **rule: object) -> None:
        """Lose one packet of a direction; rule: as under `drop:` in a topology."""
        link = self.lab.link(SUBJECT, PATH)
        link.set(toward=PATH if toward == PEER else SUBJECT, drop=[rule])

    def cut(self, toward: str | None = None) -> None:
        """Let nothing pass any more, in one direction or both."""
        way = None if toward is None else PATH if toward == PEER else SUBJECT
        self.lab.link(SUBJECT, PATH).cut(way)

    def restore(self) -> None:
        """Let everything pass again."""
        self.lab.link(SUBJECT, PATH).restore()

    def wait(self, seconds: float) -> None:
        """Let so much time pass."""
        time.sleep(seconds)

    def pour(self, source: StreamSocket, sink: StreamSocket, count: int) -> None:
        """Send so many bytes, which the other end reads as they come."""
        writer = self.send_in_background(source, count)
        self.read(sink, count)
        writer.join()

    def send_in_background(self, source: StreamSocket, count: int) -> threading.Thread:
        """Send so many bytes while other things happen."""
        data = random.Random(count).randbytes(count)
        return self.in_background(lambda: source.sendall(data))

    def in_background(self, work: Callable[[], None]) -> threading.Thread:
        """Do something while other things happen."""

        def run() -> None:
            with contextlib.suppress(OSError):  # the connection has ended, which the trace shows
                work()

        thread = threading.Thread(target=run, name="testbed-situation", daemon=True)
        thread.start()
        return thread

    def read(self, sink: StreamSocket, count: int) -> None:
        """Read so many bytes, or to the end."""
        while count > 0 and (data := sink.recv(min(count, _CHUNK))):
            count -= len(data)

    def close(self) -> None:
        """Close all that is open still."""
        for sock in self._sockets:
            sock.close()
