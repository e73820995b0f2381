"""The end of a direction: frames that wait until they are due."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from testbed.emulator.element import NEVER, Nanoseconds


class Departures:
    """Frames ordered by the time at which they are due; equal times keep their order.

    Nearly all frames come in order and go through a plain queue; only those that overtake others
    pay for a heap.
    """

    def __init__(self) -> None:
        self._in_order: deque[tuple[Nanoseconds, bytes]] = deque()
        self._overtaking: list[tuple[Nanoseconds, int, bytes]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._in_order) + len(self._overtaking)

    @property
    def next_due(self) -> Nanoseconds:
        """When the next frame is due, or NEVER."""
        due = self._in_order[0][0] if self._in_order else NEVER
        if self._overtaking and self._overtaking[0][0] < due:
            return self._overtaking[0][0]
        return due

    def push(self, frame: bytes, due: Nanoseconds) -> None:
        queue = self._in_order
        if queue and due < queue[-1][0]:
            self._serial += 1
            heappush(self._overtaking, (due, self._serial, frame))
        else:
            queue.append((due, frame))

    def pop(self) -> tuple[Nanoseconds, bytes]:
        """Take out the frame that is due next. Raises IndexError when there is none."""
        if self._overtaking and (
            not self._in_order or self._overtaking[0][0] < self._in_order[0][0]
        ):
            due, _, frame = heappop(self._overtaking)
            return due, frame
        return self._in_order.popleft()
