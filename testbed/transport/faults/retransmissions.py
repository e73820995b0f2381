"""Faults of what is sent again."""

from __future__ import annotations

from testbed.transport.faults.registry import fault
from testbed.transport.sender import HostSender

_AT_ONCE = 3


@fault("inconsistent-retransmission")
class InconsistentRetransmission(HostSender):
    """Sends other bytes under the same numbers."""

    def _repeat(self, start: int, stop: int) -> None:
        first = start - self.una
        piece = self._data[first : stop - self.una]
        self._data[first : first + len(piece)] = bytes(byte ^ 0xFF for byte in piece)
        super()._repeat(start, stop)


@fault("multiple-packet-retransmission")
class MultiplePacketRetransmission(HostSender):
    """Sends several segments when the timer runs out."""

    def _time_out(self) -> None:
        super()._time_out()
        for _ in range(_AT_ONCE - 1):
            self.push(at_once=True)


@fault("fin-not-sent-promptly")
class FinNotSentPromptly(HostSender):
    """Keeps the FIN until all data has been acknowledged."""

    @property
    def _stop(self) -> int:
        waits = self._fin is not None and self.una < self._fin
        return super()._stop - waits
