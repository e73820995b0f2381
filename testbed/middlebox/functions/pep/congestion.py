"""How much the accelerator may have under way to an end: what its options say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from testbed.transport.congestion import Congestion

_INITIAL: Final = 10  # segments (RFC 6928)


class Policy(Protocol):
    """The options that matter, as they are now."""

    @property
    def in_flight(self) -> int: ...

    @property
    def congestion_control(self) -> str: ...


class AsAllowed(Congestion):
    """RFC 5681, unless the options say that losses do not matter. policy: tells the options."""

    def __init__(self, mss: int, policy: Callable[[], Policy]) -> None:
        self._policy = policy
        super().__init__(mss, _INITIAL * mss if self._obeys else policy().in_flight)

    @property
    def _obeys(self) -> bool:
        return self._policy().congestion_control == "reno"

    @property
    def limit(self) -> int:
        return min(self.window, self._policy().in_flight)

    def time_out(self, under_way: int, *, again: bool) -> None:
        super().time_out(under_way, again=again)
        if not self._obeys:
            self.window = _INITIAL * self.mss

    def rest(self) -> None:
        if self._obeys:
            super().rest()

    def _slow_down(self, under_way: int) -> None:
        super()._slow_down(under_way)
        if not self._obeys:
            self._threshold = self._policy().in_flight
