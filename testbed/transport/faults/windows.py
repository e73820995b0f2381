"""Faults of the congestion window."""

from __future__ import annotations

from testbed.transport.congestion import Congestion
from testbed.transport.connection import TcpConnection
from testbed.transport.faults.registry import fault

_VERY_LARGE = 1 << 30


@fault("no-initial-slow-start")
class NoInitialSlowStart(TcpConnection):
    """Begins with all that the other end's window permits."""

    def _initial_window(self, mss: int) -> int:
        return _VERY_LARGE


@fault("uninitialized-cwnd")
class UninitializedCwnd(TcpConnection):
    """Sets its window where it reads the MSS option, so not where there is none."""

    def _initial_window(self, mss: int) -> int:
        assert self._agreed is not None
        return _VERY_LARGE if self._agreed.named is None else super()._initial_window(mss)


@fault("no-slow-start-after-rto")
class NoSlowStartAfterRto(Congestion):
    """Sends one segment again, and with its acknowledgement has the window that it had before."""

    _before = 0

    def time_out(self, under_way: int, *, again: bool) -> None:
        self._before = max(self._before, self.window)
        super().time_out(under_way, again=again)

    def acknowledged(self, size: int) -> None:
        super().acknowledged(size)
        self.window, self._before = max(self.window, self._before), 0


@fault("extra-additive-constant")
class ExtraAdditiveConstant(Congestion):
    """Adds an eighth of a segment, as 4.3BSD Reno did."""

    def _increase(self) -> int:
        return super()._increase() + self.mss // 8


@fault("no-window-deflation")
class NoWindowDeflation(Congestion):
    """Adds a segment for each duplicate, and keeps them when the loss is repaired."""

    def end_recovery(self, duplicates: int) -> None:
        self.window += duplicates * self.mss
