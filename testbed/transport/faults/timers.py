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
    """Asks after a minute of silence."""

    KEEPALIVE = (60.0, 75.0, 9)


@fault("keepalive-timeout-too-short")
class KeepaliveTimeoutTooShort(TcpConnection):
    """Gives up after nine seconds without an answer."""

    KEEPALIVE = (7200.0, 1.0, 9)
