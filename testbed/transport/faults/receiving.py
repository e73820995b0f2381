"""Faults of a receiver."""

from __future__ import annotations

from testbed.transport.connection import TcpConnection
from testbed.transport.faults.registry import fault
from testbed.transport.receiver import Receiver


@fault("no-above-sequence-retention")
class NoAboveSequenceRetention(Receiver):
    """Throws away what comes before its turn."""

    def _keep(self, start: int, payload: bytes) -> None:
        if start == self.taken:
            super()._keep(start, payload)


@fault("window-probe-deadlock")
class WindowProbeDeadlock(Receiver):
    """Takes the byte of a window probe, and finds its window negative: nothing lies in it then."""

    _negative = False

    def accepts(self, start: int, size: int) -> bool:
        return not self._negative and super().accepts(start, size)

    def take_probe(self) -> None:
        super().take_probe()
        self._negative = True


@fault("stretch-ack")
class StretchAck(TcpConnection):
    """Acknowledges eight segments at a time."""

    ACK_EVERY = 8
