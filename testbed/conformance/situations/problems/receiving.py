"""Situations that show how a TCP takes in what comes."""

from __future__ import annotations

import socket

from testbed.conformance.situations.registry import situation
from testbed.conformance.situations.stage import SUBJECT, Stage

_SMALL_BUFFER = 8192  # bytes


@situation("no-above-sequence-retention")
def miss_one(stage: Stage) -> None:
    """A segment for the subject is lost, and those behind it come before it does."""
    stage.drop(SUBJECT, data_segment=5)
    ends = stage.connect()
    stage.pour(ends.peer, ends.subject, 40_000)


@situation("stretch-ack")
def receive(stage: Stage) -> None:
    """The subject receives, and its program reads at once."""
    ends = stage.connect()
    stage.pour(ends.peer, ends.subject, 200_000)


@situation("window-probe-deadlock", needs_own_peer=True)
def close_the_window(stage: Stage) -> None:
    """The subject's window is closed and probed with a byte; then the subject sends.

    Linux probes with an old segment that has no data, so the peer is the testbed's TCP.
    """
    ends = stage.connect(
        prepare_subject=lambda sock: sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER
        )
    )
    writer = stage.send_in_background(ends.peer, 40_000)
    stage.wait(4.0)
    stage.read(ends.subject, 1)
    stage.wait(8.0)
    ends.subject.sendall(bytes(2000))
    stage.wait(20.0)
    ends.subject.close()
    writer.join()
