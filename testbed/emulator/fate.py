"""What became of every frame of a link, as a file of comma-separated values.

Only links that are asked to log pay for it: their frames carry a number with them.
"""

from __future__ import annotations

import os
import time

from testbed.kernel.timer import Nanoseconds

#: Times are nanoseconds of the real-time clock, the one of captures. packet: counted from 1 in
#: each direction as frames come, so both copies of a duplicated frame have the same; waiting:
#: packets in the queue when it came; due_ns: when it was to leave the link, empty where it never
#: was; out_ns: when it did leave, or was dropped; verdict: `sent`, or the cause of the drop.
HEADER = "direction,packet,bytes,waiting,in_ns,due_ns,out_ns,verdict\n"
_FLUSH_AT = 64 << 10


class NumberedFrame(bytes):
    """A frame that knows which it was in its direction, and when it came."""

    number: int
    came_at: Nanoseconds
    waiting: int


def altered(frame: bytes, changed: bytes) -> bytes:
    """`changed`, with the number of the frame that it was made from."""
    if not isinstance(frame, NumberedFrame):
        return changed
    copy = NumberedFrame(changed)
    copy.number, copy.came_at, copy.waiting = frame.number, frame.came_at, frame.waiting
    return copy


class LogFile:
    """A file that both directions of a link write to, in blocks; owns the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        #: Why lines are missing, or empty.
        self.error = ""
        self._lines = [HEADER]
        self._size = 0
        #: From the monotonic clock to the real-time clock.
        self.offset: Nanoseconds = time.time_ns() - time.monotonic_ns()

    def append(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._size > _FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write out what is buffered; when the disk refuses, say so in `error` and carry on."""
        data = "".join(self._lines).encode()
        self._lines, self._size = [], 0
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self.error = self.error or f"the log of fates cannot be written: {error.strerror}"

    def close(self) -> None:
        self.flush()
        os.close(self._fd)


class FateLog:
    """The lines of one direction."""

    def __init__(self, file: LogFile, direction: str) -> None:
        self._file = file
        self._direction = direction
        self._count = 0

    def number(self, frame: bytes | memoryview, now: Nanoseconds, waiting: int) -> NumberedFrame:
        """A frame that has just come."""
        self._count += 1
        numbered = NumberedFrame(frame)
        numbered.number, numbered.came_at, numbered.waiting = self._count, now, waiting
        return numbered

    def sent(self, frame: bytes, due: Nanoseconds, now: Nanoseconds) -> None:
        self._write(frame, str(due + self._file.offset), now, "sent")

    def dropped(self, frame: bytes, cause: str, now: Nanoseconds) -> None:
        self._write(frame, "", now, cause)

    def _write(self, frame: bytes, due: str, now: Nanoseconds, verdict: str) -> None:
        if isinstance(frame, NumberedFrame):  # else it came before logging began
            offset = self._file.offset
            self._file.append(
                f"{self._direction},{frame.number},{len(frame)},{frame.waiting},"
                f"{frame.came_at + offset},{due},{now + offset},{verdict}\n"
            )
