"""Connections that a function follows: bounded in number, forgotten when silent or closed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from testbed.middlebox.flow_table import FlowTable
from testbed.middlebox.function import Box
from testbed.middlebox.timers import Timer
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.packet import Packet, Side

LINGER: Final = 60.0  # seconds that a closed connection is still known, as TIME-WAIT
_SWEEP: Final = 1.0  # seconds between two looks at the closed ones, at least
_BOTH: Final = 0b11


@dataclass(eq=False, slots=True, kw_only=True)
class Flow:
    """One connection; functions add their own fields.

    last_used: in seconds of the box's clock. ended: the sides that have sent a FIN, as bits; both
    after a RST. closed: whether it was found ended.
    """

    last_used: float
    ended: int = 0
    closed: bool = False


F = TypeVar("F", bound=Flow)


class Tracker(Generic[F]):
    """At most `limit` flows, found by any of their keys.

    The one that was used least recently makes room; those silent for `idle_timeout` seconds and
    those closed for a minute go by themselves. Counted are those `evicted` (under that
    name) and `idle`; `on_end` is told each flow that went in one of these ways.
    """

    def __init__(
        self,
        box: Box,
        counters: Counter[str],
        limit: int,
        idle_timeout: float,
        *,
        evicted: str = "evicted",
        on_end: Callable[[F], None] | None = None,
    ) -> None:
        self._box = box
        self._counters = counters
        self._idle_timeout = idle_timeout
        self._word_for_evicted = evicted
        self._on_end = on_end
        self._table: FlowTable[F] = FlowTable(limit, self._evicted)
        self._closed: dict[F, None] = {}
        self._idle_sweep: Timer | None = None
        self._closed_sweep: Timer | None = None
        self.get = self._table.get

    def __len__(self) -> int:
        return len(self._table)

    @property
    def limit(self) -> int:
        return self._table.limit

    def configure(self, limit: int, idle_timeout: float) -> None:
        """Other limits hold from now on."""
        self._table.limit = limit
        self._idle_timeout = idle_timeout
        self._forget_idle()

    def add(self, flow: F, *keys: bytes) -> None:
        """Follow a flow. Raises KeyError when a key is taken."""
        self._table.add(flow, *keys)
        if self._idle_sweep is None:
            self._forget_idle()

    def find(self, packet: Packet) -> F | None:
        """The flow of a segment; a SYN that makes use of a closed one's ports belongs to none."""
        flow = self.get(packet.key)
        if flow is not None and flow.closed and packet.flags & (SYN | ACK) == SYN:
            self.forget(flow)
            return None
        return flow

    def saw(self, flow: F, side: Side, flags: int) -> None:
        """A segment of the flow came from `side`."""
        self._table.touch(flow)
        flow.last_used = self._box.now()
        if flags & (FIN | RST):
            flow.ended |= _BOTH if flags & RST else 1 << side
            if flow.ended == _BOTH and not flow.closed:
                flow.closed = True
                self._closed[flow] = None
                if self._closed_sweep is None:
                    self._forget_closed()

    def forget(self, flow: F) -> None:
        self._table.remove(flow)
        self._closed.pop(flow, None)

    def _evicted(self, flow: F) -> None:
        self._closed.pop(flow, None)
        self._counters[self._word_for_evicted] += 1
        self._end(flow)

    def _end(self, flow: F) -> None:
        if self._on_end is not None:
            self._on_end(flow)

    def _forget_idle(self) -> None:
        """Forget who was silent too long; come back when it is the next one's turn."""
        if self._idle_sweep is not None:
            self._idle_sweep.cancel()
            self._idle_sweep = None
        while (oldest := self._table.oldest()) is not None:
            wait = oldest.last_used + self._idle_timeout - self._box.now()
            if wait > 0:
                self._idle_sweep = self._box.call_later(wait, self._forget_idle)
                return
            self.forget(oldest)
            self._counters["idle"] += 1
            self._end(oldest)

    def _forget_closed(self) -> None:
        """Forget who is closed, unless the reset was none that its receiver believed."""
        self._closed_sweep = None
        longest_ago = self._box.now() - LINGER
        for flow in [flow for flow in self._closed if flow.last_used <= longest_ago]:
            self.forget(flow)
            self._end(flow)
        if self._closed:
            wait = min(flow.last_used for flow in self._closed) - longest_ago
            self._closed_sweep = self._box.call_later(max(wait, _SWEEP), self._forget_closed)
