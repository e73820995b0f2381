"""What is missing between the data that a capture has of one direction."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

BEGINNING = -(1 << 40)
"""Before all that a capture has of a direction."""


class Holes:
    """Stretches of sequence numbers that were not seen, each with the row that showed it first."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._rows: list[int] = []

    def open(self, start: int, end: int, row: int) -> None:
        """[start, end) is missing before the data of a row; it lies beyond all other holes."""
        if start < end:
            self._starts.append(start)
            self._ends.append(end)
            self._rows.append(row)

    def unseen(self, start: int, end: int) -> int:
        """How much of [start, end) is missing."""
        low, high = self._touched(start, end)
        return sum(min(end, self._ends[i]) - max(start, self._starts[i]) for i in range(low, high))

    def shown_by(self, start: int, end: int) -> int | None:
        """The row that showed the last hole that [start, end) touches."""
        low, high = self._touched(start, end)
        return self._rows[high - 1] if high > low else None

    def fill(self, start: int, end: int) -> None:
        """[start, end) was seen."""
        low, high = self._touched(start, end)
        left: list[tuple[int, int, int]] = []
        for index in range(low, high):
            begin, stop, row = self._starts[index], self._ends[index], self._rows[index]
            if begin < start:
                left.append((begin, start, row))
            if end < stop:
                left.append((end, stop, row))
        self._starts[low:high] = [one[0] for one in left]
        self._ends[low:high] = [one[1] for one in left]
        self._rows[low:high] = [one[2] for one in left]

    def _touched(self, start: int, end: int) -> tuple[int, int]:
        return bisect_right(self._ends, start), bisect_left(self._starts, end)
