"""Faults of timers."""

from __future__ import annotations

from testbed.transport.connection import TcpConnection
from testbed.transport.faults.registry import fault
from testbed.transport.timeout import RetransmissionTimeout


@fault("initial-rto-too-low")
class InitialRtoTooLow(RetransmissionTimeout):
    """Waits a fifth of a second for the first answer."""

    FIRST = 0.2


@fault("no-rto-backoff")
class NoRtoBackoff(RetransmissionTimeout):
    """Waits no longer the second time."""

    def back_off(self) -> None:
        pass


@fault("keepalive-interval-too-short")
class KeepaliveIntervalTooShort(TcpConnection):
    """Counts two hours as one minute."""

    def _patience(self) -> tuple[float, float, int]:
        idle, interval, probes = super()._patience()
        return idle / 120, interval, probes


@fault("keepalive-timeout-too-short")
class KeepaliveTimeoutTooShort(TcpConnection):
    """Repeats its probes after a second, and gives up after nine."""

    def _patience(self) -> tuple[float, float, int]:
        idle, interval, probes = super()._patience()
        return idle, interval / 75, probes
