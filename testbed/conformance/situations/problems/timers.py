"""Situations that show how long a TCP waits."""

from __future__ import annotations

import contextlib
import socket

from testbed.conformance.situations.registry import situation
from testbed.conformance.situations.stage import PEER, Stage
from testbed.lab.userspace_tcp import StreamSocket

_IDLE, _INTERVAL, _PROBES = 7200, 75, 9  # defaults of Linux
_SILENCE = 16.0  # seconds: four time-outs in a row that begin at a second


@situation("initial-rto-too-low")
def lose_the_syn(stage: Stage) -> None:
    """The first SYN is lost."""
    stage.drop(PEER, flags="SYN", nth=1)
    stage.connect()


@situation("no-rto-backoff")
def fall_silent(stage: Stage) -> None:
    """The path is cut, and nothing that the subject sends is answered."""
    ends = stage.connect()
    stage.pour(ends.subject, ends.peer, 1000)
    stage.wait(1.0)
    stage.cut()
    ends.subject.sendall(bytes(1000))
    stage.wait(_SILENCE)


@situation("keepalive-interval-too-short", scale=3600)
def idle(stage: Stage) -> None:
    """The connection is idle for longer than two hours, with keepalive."""
    stage.connect(prepare_subject=lambda sock: _keep_alive(sock, stage.scale))
    stage.wait(_IDLE / stage.scale * 1.2)


@situation("keepalive-timeout-too-short", scale=75)
def vanish(stage: Stage) -> None:
    """The path is cut, and the subject's keepalive probes are not answered."""
    patience = (_IDLE + _PROBES * _INTERVAL) * 1.2

    def prepare(sock: StreamSocket) -> None:
        _keep_alive(sock, stage.scale)
        if stage.scale > 1:  # the idle time is not what is asked for
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)

    ends = stage.connect(prepare_subject=prepare)
    stage.cut()
    ends.subject.settimeout(patience / stage.scale)
    with contextlib.suppress(OSError):
        ends.subject.recv(1)


def _keep_alive(sock: StreamSocket, scale: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if scale > 1:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(_IDLE // scale, 1))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(_INTERVAL // scale, 1))
