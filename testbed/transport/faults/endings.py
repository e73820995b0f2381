"""Faults at the ends of a connection."""

from __future__ import annotations

from testbed.transport.connection import TcpConnection
from testbed.transport.faults.registry import fault
from testbed.transport.settings import TIMESTAMPS_SIZE, Agreement


@fault("no-rst-after-half-duplex-close")
class NoRstAfterHalfDuplexClose(TcpConnection):
    """Takes what nobody will read."""

    def _takes_data(self) -> bool:
        return True


@fault("no-rst-on-close-with-data-pending")
class NoRstOnCloseWithDataPending(TcpConnection):
    """Ends in order, as if all had been read."""

    def _close_unread(self) -> None:
        self._inbox.clear()
        self.finish()


@fault("mss-without-options")
class MssWithoutOptions(TcpConnection):
    """Forgets the options that stand in the way of data."""

    def _segment_size(self, agreed: Agreement) -> int:
        return super()._segment_size(agreed) + (TIMESTAMPS_SIZE if agreed.timestamps else 0)
