"""Propagation: the time a frame is under way once it has left the queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from testbed.emulator.elements.chance import CorrelatedUniform
from testbed.emulator.elements.element import Element, Surroundings, element
from testbed.emulator.elements.jitter import variation
from testbed.kernel.timer import SECOND, Nanoseconds
from testbed.topology.model import Impairments, Jitter, Reorder


@element(80)
class Delay(Element):
    """A time for every frame, which jitter may vary; never less than 0.

    Unless jitter may reorder, a frame never overtakes the one before it: one that is faster
    arrives together with it. Only frames that come after a change of the delay do not wait for
    those from before: the path is another one, as in netem.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._delay: Nanoseconds = 0
        self._latest: Nanoseconds = 0
        self._jitter: Jitter | None = None
        self._uniform = CorrelatedUniform(surroundings.generator("jitter"))
        self._vary: Callable[[], Nanoseconds] | None = None
        self._in_order = True

    @property
    def neutral(self) -> bool:
        return False  # without delay, too, what comes out of the queue must stay in order

    def least_delay(self, downstream: Nanoseconds) -> Nanoseconds:
        return downstream + (self._delay if self._vary is None else 0)

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        delay, jitter = round(impairments.delay * SECOND), impairments.jitter
        if (delay, jitter) != (self._delay, self._jitter):
            self._latest = 0
        self._delay, self._jitter = delay, jitter
        self._in_order = jitter is None or not jitter.reorder
        if jitter is None:
            self._vary = None
        else:
            self._uniform.correlation = jitter.correlation
            self._vary = variation(jitter, self._uniform)

    def settings(self) -> dict[str, Any]:
        return {"delay": self._delay / SECOND, "jitter": self._jitter}

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        if self._vary is None:
            due = time + self._delay
        else:
            due = time + max(0, self._delay + self._vary())
        if self._in_order:
            if due < self._latest:
                due = self._latest
            else:
                self._latest = due
        self.emit(frame, due)

    def take_all(self, frames: Sequence[bytes], times: Sequence[Nanoseconds]) -> None:
        delay = self._delay
        if self._vary is not None or not times or times[0] + delay < self._latest:
            super().take_all(frames, times)
            return
        dues = [time + delay for time in times]
        self._latest = dues[-1]
        self.emit_all(frames, dues)


@element(70)
class Overtaking(Element):
    """Reordering as netem does it: frames chosen by chance go past the delay to the departures."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._overtake = surroundings.depart
        self._uniform = CorrelatedUniform(surroundings.generator("reorder"))
        self._reorder: Reorder | None = None
        self._gap, self._probability = 1, 0.0
        self._since = 0

    @property
    def neutral(self) -> bool:
        return self._reorder is None

    def least_delay(self, downstream: Nanoseconds) -> Nanoseconds:
        return 0

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        self._reorder = reorder = impairments.reorder
        if reorder is not None:
            self._gap, self._probability = reorder.gap, reorder.probability
            self._uniform.correlation = reorder.correlation

    def settings(self) -> dict[str, Any]:
        return {"reorder": self._reorder}

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        if self._since < self._gap - 1 or self._uniform() >= self._probability:
            self._since += 1
            self.emit(frame, time)
        else:
            self._since = 0
            self.tally.reordered += 1
            self._overtake(frame, time)
