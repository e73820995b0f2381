"""The rate of a link and the queue in front of it: one stage, as in a router's interface."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from testbed.emulator.counters import Tally
from testbed.emulator.element import NEVER, SECOND, Element, Nanoseconds
from testbed.topology.model import Impairments, Queue, QueueLimit


class Bottleneck(Element):
    """A transmitter that sends one frame at a time, and a drop-tail queue before it.

    A frame of n bytes occupies the transmitter for 8 n / rate seconds, where n counts what the
    kernel's qdiscs count: the whole frame from the destination address on, without frame check
    sequence, preamble and gap. The frame in the transmitter does not wait, so it is not counted
    against the limit; a frame that finds the transmitter free never meets the queue.

    A changed rate holds from the next frame on that enters the transmitter.
    """

    holds = True

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._rate: float | None = None
        self._queue = Queue()
        self._ns_per_byte = 0.0
        self._max_packets: float = math.inf
        self._max_bytes: float = math.inf
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._free_at: Nanoseconds = 0

    @property
    def neutral(self) -> bool:
        return self._rate is None

    @property
    def waiting(self) -> int:
        """Packets in the queue."""
        return len(self._waiting)

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        self._rate = impairments.rate
        self._queue = impairments.queue
        if self._rate is None:
            self._ns_per_byte = 0.0
            self._free_at = min(self._free_at, now)
        else:
            self._ns_per_byte = 8 * SECOND / self._rate
        self._max_packets, self._max_bytes = _limits(self._queue.limit, self._rate, round_trip)

    def settings(self) -> dict[str, Any]:
        return {"rate": self._rate, "queue": self._queue}

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        queue = self._waiting
        if self._free_at <= time:
            if queue:
                self.advance(time)
            if not queue and self._free_at <= time:
                self._free_at = done = time + int(len(frame) * self._ns_per_byte)
                self.emit(frame, done)
                return
        if len(queue) >= self._max_packets or self._waiting_bytes + len(frame) > self._max_bytes:
            self.tally.dropped["queue"] += 1
            return
        queue.append(frame)
        self._waiting_bytes += len(frame)
        if len(queue) > self.tally.queue_high_water:
            self.tally.queue_high_water = len(queue)
        if len(queue) == 1:
            self._plan_wake()

    def advance(self, now: Nanoseconds) -> None:
        """Put every frame into the transmitter whose turn came by `now`.

        Frames leave at the times at which an exact transmitter would send them, however late
        this is called.
        """
        queue = self._waiting
        while queue and self._free_at <= now:
            frame = queue.popleft()
            size = len(frame)
            self._waiting_bytes -= size
            self._free_at = done = self._free_at + int(size * self._ns_per_byte)
            self.emit(frame, done)
        self._plan_wake()

    def _plan_wake(self) -> None:
        """Wake when the first waiting frame would depart, not already when its turn comes.

        Nobody downstream can see the difference, and it saves a wake-up per frame.
        """
        if self._waiting:
            sent = self._free_at + int(len(self._waiting[0]) * self._ns_per_byte)
            self.wake = sent + self.downstream
        else:
            self.wake = NEVER


def _limits(limit: QueueLimit, rate: float | None, round_trip: float) -> tuple[float, float]:
    """The limit as packets and as bytes; the one that does not apply is infinite."""
    if rate is None:
        return math.inf, math.inf
    match limit.unit:
        case "packets":
            return limit.amount, math.inf
        case "bytes":
            return math.inf, limit.amount
        case "seconds":
            return math.inf, limit.amount * rate / 8
        case "bdp":
            return math.inf, limit.amount * round_trip * rate / 8
