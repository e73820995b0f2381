"""Situations at the ends of connections."""

from __future__ import annotations

import socket

from testbed.conformance.situations.registry import situation
from testbed.conformance.situations.stage import Stage

_SMALL_BUFFER = 8192  # bytes
_MOMENT = 0.5  # seconds: some round trips
_NAMED = 1000  # bytes: an MSS below that of the path


@situation("fin-not-sent-promptly")
def say_and_close(stage: Stage) -> None:
    """The subject's program sends a little and closes at once."""
    ends = stage.connect()
    ends.subject.sendall(bytes(5000))
    ends.subject.close()
    stage.read(ends.peer, 1 << 30)


@situation("no-rst-after-half-duplex-close")
def talk_to_nobody(stage: Stage) -> None:
    """The subject's program has closed, and the peer sends data."""
    ends = stage.connect()
    ends.subject.close()
    stage.wait(_MOMENT)
    ends.peer.sendall(bytes(100))
    stage.wait(2 * _MOMENT)


@situation("no-rst-on-close-with-data-pending")
def close_unread(stage: Stage) -> None:
    """The subject's program closes without having read any of what fills its buffer."""
    ends = stage.connect(
        prepare_subject=lambda sock: sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER
        )
    )
    writer = stage.send_in_background(ends.peer, 4 * _SMALL_BUFFER)
    stage.wait(4 * _MOMENT)
    ends.subject.close()
    writer.join()
    stage.wait(_MOMENT)


@situation("mss-without-options")
def send_full_segments(stage: Stage) -> None:
    """The peer names an MSS that is smaller than the path's, and time stamps are in use."""
    ends = stage.connect(
        prepare_peer=lambda sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _NAMED)
    )
    stage.pour(ends.subject, ends.peer, 20_000)
