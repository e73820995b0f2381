"""Frames that do not arrive."""

from __future__ import annotations

import random
from typing import Any

from testbed.emulator.counters import Tally
from testbed.emulator.element import Element, Nanoseconds
from testbed.topology.model import Impairments


class Cut(Element):
    """A cable pulled out: every frame that comes is dropped, until it is put back.

    What had come before is not called back: it arrives.
    """

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self.engaged = False

    @property
    def neutral(self) -> bool:
        return not self.engaged

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        """A cut is no impairment: it stays when impairments change."""

    def settings(self) -> dict[str, Any]:
        return {}

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        self.tally.dropped["cut"] += 1


class Loss(Element):
    """Each frame is lost with the same probability, whatever happens to the others.

    Decided when a frame comes, as netem does (net/sched/sch_netem.c, netem_enqueue), so that
    what is lost depends on the sequence of frames alone and never on their timing.
    """

    def __init__(self, tally: Tally, generator: random.Random) -> None:
        super().__init__(tally)
        self._random = generator.random
        self._probability = 0.0

    @property
    def neutral(self) -> bool:
        return self._probability == 0

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        self._probability = impairments.loss

    def settings(self) -> dict[str, Any]:
        return {"loss": self._probability}

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        if self._random() < self._probability:
            self.tally.dropped["loss"] += 1
        else:
            self.emit(frame, time)
