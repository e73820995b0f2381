"""The rate of a link and the queue in front of it: one stage, as in a router's interface."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from testbed.emulator.elements.aqm import CodelDiscipline, Discipline, RandomEarlyDetection
from testbed.emulator.elements.ecn import marked
from testbed.emulator.elements.element import Element, Surroundings, element
from testbed.emulator.elements.service import ConstantRate, TracedRate, Transmitter, Unlimited
from testbed.kernel.timer import NEVER, Nanoseconds
from testbed.topology.model import Codel, Impairments, KernelAqm, Queue, QueueLimit, RateTrace, Red
from testbed.wire.frame import FULL_FRAME


@element(60)
class Bottleneck(Element):
    """A transmitter that sends one frame at a time, and the queue before it.

    A frame of n bytes occupies the transmitter for 8 n / rate seconds, where n counts what the
    kernel's qdiscs count: the whole frame from the destination address on, without frame check
    sequence, preamble and gap, and the overhead that is asked for. The frame in the transmitter
    does not wait, so it is not counted against the limit; a frame that finds the transmitter
    free never meets the queue.

    A changed rate holds from the next frame on that enters the transmitter.
    """

    holds = True

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._generator = surroundings.generator("aqm")
        self._rate: float | None = None
        self._trace: RateTrace | None = None
        self._mean_rate: float | None = None
        self._overhead = 0
        self._service: Transmitter = Unlimited()
        self._queue = Queue()
        self._max_packets: float = math.inf
        self._max_bytes: float = math.inf
        self._discipline: Discipline | None = None
        self._waiting: deque[tuple[Nanoseconds, bytes]] = deque()
        self._waiting_bytes = 0
        self._largest = 0
        self._free_at: Nanoseconds = 0
        self._sent: list[bytes] = []
        self._sent_at: list[Nanoseconds] = []

    @property
    def neutral(self) -> bool:
        return self._rate is None and self._trace is None

    @property
    def waiting(self) -> int:
        """Packets in the queue."""
        return len(self._waiting)

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        self._set_service(impairments, now)
        rate = self._mean_rate = self._rate if self._trace is None else _mean_rate(self._trace)
        queue = impairments.queue
        self._max_packets, self._max_bytes = limits_of(queue.limit, rate, round_trip)
        self._queue = queue
        self._set_discipline(queue.aqm)

    def _set_service(self, impairments: Impairments, now: Nanoseconds) -> None:
        rate, trace, overhead = impairments.rate, impairments.rate_trace, impairments.overhead
        if (rate, trace, overhead) == (self._rate, self._trace, self._overhead):
            return
        same_trace = trace is not None and trace == self._trace
        self._rate, self._trace, self._overhead = rate, trace, overhead
        if same_trace:
            self._service.overhead = overhead
        elif trace is not None:
            self._service = TracedRate(trace, overhead, now)
        elif rate is not None:
            self._service = ConstantRate(rate, overhead)
        else:
            self._service = Unlimited()
            self._free_at = min(self._free_at, now)

    def _set_discipline(self, aqm: Codel | Red | KernelAqm | None) -> None:
        """A discipline of the same kind keeps its state."""
        limit = min(self._max_bytes, self._max_packets * FULL_FRAME)
        match aqm, self._discipline:
            case Red() as red, RandomEarlyDetection() as present:
                present.change(red, limit)
            case Red() as red, _:
                self._discipline = RandomEarlyDetection(red, limit, self._generator)
            case Codel() as codel, CodelDiscipline() as present:
                present.change(codel)
            case Codel() as codel, _:
                self._discipline = CodelDiscipline(codel)
            case _:
                self._discipline = None

    def settings(self) -> dict[str, Any]:
        return {
            "rate": self._rate,
            "rate_trace": self._trace,
            "overhead": self._overhead,
            "queue": self._queue,
        }

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        self.take_all((frame,), (time,))

    def take_all(self, frames: Sequence[bytes], times: Sequence[Nanoseconds]) -> None:
        queue, tally = self._waiting, self.tally
        for arriving, time in zip(frames, times, strict=True):
            if queue and self._free_at <= time:
                self._transmit_waiting(time)
            frame = arriving
            if self._discipline is not None and self._discipline.condemns_arrival(
                time, self._waiting_bytes, self._idle(time)
            ):
                survivor = self._tell(arriving, time)
                if survivor is None:
                    continue
                frame = survivor
            size = len(frame)
            if not queue and self._free_at <= time:
                self._transmit(frame, time)
            elif len(queue) >= self._max_packets or self._waiting_bytes + size > self._max_bytes:
                tally.drop("queue", frame, time)
            else:
                queue.append((time, frame))
                self._waiting_bytes += size
                if size > self._largest:
                    self._largest = size
                if len(queue) > tally.queue_high_water:
                    tally.queue_high_water = len(queue)
        self._pass_on()

    def advance(self, now: Nanoseconds) -> None:
        """Put every frame into the transmitter whose turn came by `now`.

        Frames leave at the times at which an exact transmitter would send them, however late
        this is called.
        """
        self._transmit_waiting(now)
        self._pass_on()

    def _transmit_waiting(self, now: Nanoseconds) -> None:
        queue, discipline = self._waiting, self._discipline
        while queue and self._free_at <= now:
            arrived, frame = queue.popleft()
            self._waiting_bytes -= len(frame)
            if discipline is not None and discipline.condemns_departure(
                arrived, self._free_at, self._waiting_bytes, self._largest
            ):
                survivor = self._tell(frame, self._free_at)
                if survivor is None:
                    continue
                frame = survivor
            self._transmit(frame, self._free_at)

    def _transmit(self, frame: bytes, start: Nanoseconds) -> None:
        self._free_at = done = self._service.finish(start, len(frame))
        self._sent.append(frame)
        self._sent_at.append(done)

    def _pass_on(self) -> None:
        """Emit what has been sent."""
        if self._sent:
            frames, times = self._sent, self._sent_at
            self._sent, self._sent_at = [], []
            self.emit_all(frames, times)
        self._plan_wake()

    def _tell(self, frame: bytes, time: Nanoseconds) -> bytes | None:
        """Tell the ends of congestion by this frame: marked where it may be, dropped elsewhere."""
        changed = marked(frame) if self._queue.ecn else None
        if changed is None:
            self.tally.drop("aqm", frame, time)
        else:
            self.tally.marked += 1
        return changed

    def _idle(self, now: Nanoseconds) -> float:
        """How many full-sized frames could have been sent since the transmitter became idle."""
        if self._waiting or now <= self._free_at or self._mean_rate is None:
            return 0.0
        return (now - self._free_at) * self._mean_rate / (8e9 * FULL_FRAME)

    def _plan_wake(self) -> None:
        """Wake when the first waiting frame would depart, not already when its turn comes.

        Nobody downstream can see the difference, and it saves a wake-up per frame. Only where
        the length of the transmission is known in advance.
        """
        if not self._waiting:
            self.wake = NEVER
        elif self._trace is None:
            done = self._service.finish(self._free_at, len(self._waiting[0][1]))
            self.wake = done + self.downstream
        else:
            self.wake = self._free_at


def limits_of(limit: QueueLimit, rate: float | None, round_trip: float) -> tuple[float, float]:
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


def _mean_rate(trace: RateTrace) -> float:
    """Bit/s over the whole of a trace."""
    return len(trace.opportunities) * FULL_FRAME * 8 / (trace.opportunities[-1] / 1000)
