"""Propagation: the time a frame is under way once it has left the queue."""

from __future__ import annotations

from typing import Any

from testbed.emulator.counters import Tally
from testbed.emulator.element import SECOND, Element, Nanoseconds
from testbed.topology.model import Impairments


class Delay(Element):
    """The same time for every frame; a frame never overtakes the one before it.

    So a delay that is made shorter takes effect once the frames under way have arrived.
    """

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self._delay: Nanoseconds = 0
        self._latest: Nanoseconds = 0

    @property
    def neutral(self) -> bool:
        return False  # without delay, too, nothing may overtake what is still under way

    @property
    def least_delay(self) -> Nanoseconds:
        return self._delay

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        self._delay = round(impairments.delay * SECOND)

    def settings(self) -> dict[str, Any]:
        return {"delay": self._delay / SECOND}

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        due = time + self._delay
        if due < self._latest:
            due = self._latest
        else:
            self._latest = due
        self.emit(frame, due)
