"""Which stretches of a sequence space were seen already."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from testbed.wire.sequence import difference


class Unwrapper:
    """Sequence numbers without wrap-around: 0 is the first one given, may run past 2^32."""

    def __init__(self, origin: int) -> None:
        self._last = origin
        self._position = 0

    def position(self, seq: int) -> int:
        """Where `seq` lies, taken as nearest to the one given before."""
        self._position += difference(seq, self._last)
        self._last = seq
        return self._position


class Ranges:
    """A set of integers kept as sorted, disjoint, half-open intervals."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    @property
    def total(self) -> int:
        """How many integers are in the set."""
        return sum(self._ends) - sum(self._starts)

    @property
    def end(self) -> int | None:
        """One past the largest; None when empty."""
        return self._ends[-1] if self._ends else None

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any of [start, end) is in the set."""
        if start >= end or not self._ends or start >= self._ends[-1]:
            return False
        index = bisect_right(self._ends, start)
        return index < len(self._starts) and self._starts[index] < end

    def covers(self, start: int, end: int) -> bool:
        """Whether all of [start, end) is in the set."""
        if start >= end:
            return True
        index = bisect_right(self._ends, start)
        return (
            index < len(self._starts) and self._starts[index] <= start and end <= self._ends[index]
        )

    def add(self, start: int, end: int) -> None:
        """Put [start, end) into the set."""
        if start >= end:
            return
        if self._ends and start == self._ends[-1]:  # the next bytes of a stream
            self._ends[-1] = end
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]
