"""Frames that arrive twice, or other than they were sent."""

from __future__ import annotations

from typing import Any

from testbed.emulator.elements.chance import CorrelatedUniform
from testbed.emulator.elements.element import Element, Surroundings, element
from testbed.emulator.fate import altered
from testbed.kernel.timer import Nanoseconds
from testbed.topology.model import Chance, Corrupt, Impairments
from testbed.wire.frame import ip_of_frame
from testbed.wire.ip import payload_of


@element(30)
class Duplication(Element):
    """Each frame is sent twice by chance; either copy may be lost or altered further on."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._uniform = CorrelatedUniform(surroundings.generator("duplicate"))
        self._chance: Chance | None = None
        self._probability = 0.0

    @property
    def neutral(self) -> bool:
        return self._chance is None

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        self._chance = chance = impairments.duplicate
        if chance is not None:
            self._probability = chance.probability
            self._uniform.correlation = chance.correlation

    def settings(self) -> dict[str, Any]:
        return {"duplicate": self._chance}

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        if self._uniform() < self._probability:
            self.tally.duplicated += 1
            self.emit(frame, time)
        self.emit(frame, time)


@element(50)
class Corruption(Element):
    """One bit of a frame flipped by chance, in the part of it that is asked for."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        generator = surroundings.generator("corrupt")
        self._uniform = CorrelatedUniform(generator)
        self._pick = generator.random
        self._corrupt: Corrupt | None = None
        self._probability = 0.0

    @property
    def neutral(self) -> bool:
        return self._corrupt is None

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        self._corrupt = corrupt = impairments.corrupt
        if corrupt is not None:
            self._probability = corrupt.probability
            self._uniform.correlation = corrupt.correlation

    def settings(self) -> dict[str, Any]:
        return {"corrupt": self._corrupt}

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        if self._uniform() < self._probability:
            frame = self._flip(frame)
        self.emit(frame, time)

    def _flip(self, frame: bytes) -> bytes:
        start, end = self._part(frame)
        # The numbers are drawn in any case: what is hit later must not depend on what this was.
        where, bit = self._pick(), self._pick()
        if start >= end:
            return frame
        flipped = bytearray(frame)
        flipped[start + int(where * (end - start))] ^= 1 << int(bit * 8)
        self.tally.corrupted += 1
        return altered(frame, bytes(flipped))

    def _part(self, frame: bytes) -> tuple[int, int]:
        """Where the bytes lie that may be hit."""
        where = self._corrupt.where if self._corrupt else "any"
        if where == "any":
            return 0, len(frame)
        headers = ip_of_frame(frame)
        if headers is None:
            return 0, 0
        payload = payload_of(frame, headers)
        return (headers.start, payload) if where == "header" else (payload, headers.end)
