"""Which processor each helper process of a lab has for its own, decided in one place."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Place(msgspec.Struct, frozen=True):
    """cpu: where the process runs. others: those that take in what it sends."""

    cpu: int
    others: frozenset[int]


class Placement:
    """Deals out processors in turn, the same ones in the same order every time.

    cpus: those there are. first: whose turn it is first, so that labs side by side do not all
    begin with the same one. With fewer than two nothing is dealt out: a process with a processor
    of its own, and none left for its receivers, would only be in their way.
    """

    def __init__(self, cpus: Iterable[int], first: int = 0) -> None:
        self._cpus = sorted(cpus)
        self._turn = first

    def take(self) -> Place | None:
        """The next one's place; None where it has to run wherever there is room."""
        if len(self._cpus) < 2:
            return None
        cpu = self._cpus[self._turn % len(self._cpus)]
        self._turn += 1
        return Place(cpu, frozenset(self._cpus) - {cpu})
