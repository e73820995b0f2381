"""The end of a direction: frames that wait until they are due."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

from testbed.kernel.timer import NEVER, Nanoseconds


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

    def push_all(self, frames: Sequence[bytes], dues: Sequence[Nanoseconds]) -> None:
        """Push frames whose times ascend."""
        queue = self._in_order
        if queue and dues and dues[0] < queue[-1][0]:
            for frame, due in zip(frames, dues, strict=True):
                self.push(frame, due)
        else:
            queue.extend(zip(dues, frames, strict=True))

    def pop_due(self, now: Nanoseconds, most: int) -> list[tuple[Nanoseconds, bytes]]:
        """Take out up to `most` frames that are due by `now`, with the times they were due."""
        queue, overtaking = self._in_order, self._overtaking
        due: list[tuple[Nanoseconds, bytes]] = []
        if not overtaking:
            while queue and queue[0][0] <= now and len(due) < most:
                due.append(queue.popleft())
            return due
        while len(due) < most:
            if overtaking and (not queue or overtaking[0][0] < queue[0][0]):
                if overtaking[0][0] > now:
                    break
                moment, _, frame = heappop(overtaking)
                due.append((moment, frame))
            elif queue and queue[0][0] <= now:
                due.append(queue.popleft())
            else:
                break
        return due
