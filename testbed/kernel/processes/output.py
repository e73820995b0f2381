"""What a program writes to its standard output or error, kept in an unnamed file."""

from __future__ import annotations

import os
import tempfile
import weakref

from testbed.kernel.syscalls import punch_hole

#: Bytes that are kept of a stream.
MOST_KEPT = 64 << 20
_BLOCK = 1 << 20
_KEPT_IN_MEMORY = 64 << 10


class OutputFile:
    """A file for a program to write to: it never blocks the program, however much that writes.

    Of a stream longer than `most` bytes the end is told. The file itself is longer until `trim`.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        with tempfile.TemporaryFile() as file:
            self._fd = os.dup(file.fileno())
        self._most = most
        self._size = 0
        self._end = b""
        self._close = weakref.finalize(self, os.close, self._fd)

    def fileno(self) -> int:
        return self._fd

    @property
    def lost(self) -> int:
        """Bytes from the beginning that are not kept."""
        if not self._close.alive:
            return self._size - len(self._end)
        return max(0, self._written - self._most)

    @property
    def _written(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        """Keep no more than the last 64 KiB, in memory."""
        if self._close.alive:
            self._size = self._written
            self._end = self.read(_KEPT_IN_MEMORY)
            self._close()

    def trim(self) -> None:
        """Give the room back of all but the last `most` bytes."""
        if self._close.alive and self.lost:
            punch_hole(self._fd, 0, self.lost)

    def read(self, most: int | None = None) -> bytes:
        """What is kept, or the last `most` bytes of it."""
        if not self._close.alive:
            return self._end if most is None else self._end[-most:]
        size = self._written
        start = max(0, size - (self._most if most is None else min(most, self._most)))
        chunks = []
        while start < size and (chunk := os.pread(self._fd, min(_BLOCK, size - start), start)):
            chunks.append(chunk)
            start += len(chunk)
        return b"".join(chunks)

    def text(self, most: int | None = None) -> str:
        """What is kept, as text; its first line tells of bytes that are not."""
        lost = self.lost
        told = f"[the first {lost} bytes are not kept]\n" if lost and not most else ""
        return told + self.read(most).decode(errors="replace")
