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

    Of a stream longer than `most` bytes the end is kept, by `trim`.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        with tempfile.TemporaryFile() as file:
            self._fd = os.dup(file.fileno())
        self._most = most
        self._lost = 0
        self._end = b""
        self._close = weakref.finalize(self, os.close, self._fd)

    def fileno(self) -> int:
        return self._fd

    @property
    def lost(self) -> int:
        """Bytes from the beginning that are not kept."""
        return self._lost

    def close(self) -> None:
        """Keep no more than the last 64 KiB, in memory."""
        if self._close.alive:
            size = os.fstat(self._fd).st_size
            self._end = self.read(_KEPT_IN_MEMORY)
            self._lost = size - len(self._end)
            self._close()

    def trim(self) -> None:
        """Give the room back of all but the last `most` bytes."""
        if not self._close.alive:
            return
        end = (os.fstat(self._fd).st_size - self._most) // _BLOCK * _BLOCK
        if end > self._lost:
            punch_hole(self._fd, 0, end)
            self._lost = end

    def read(self, most: int | None = None) -> bytes:
        """What is kept, or the last `most` bytes of it."""
        if not self._close.alive:
            return self._end if most is None else self._end[-most:]
        size = os.fstat(self._fd).st_size
        start = self._lost if most is None else max(self._lost, size - most)
        chunks = []
        while start < size and (chunk := os.pread(self._fd, min(_BLOCK, size - start), start)):
            chunks.append(chunk)
            start += len(chunk)
        return b"".join(chunks)

    def text(self, most: int | None = None) -> str:
        """What is kept, as text; its first line tells of bytes that are not."""
        told = f"[the first {self._lost} bytes are not kept]\n" if self._lost and not most else ""
        return told + self.read(most).decode(errors="replace")
