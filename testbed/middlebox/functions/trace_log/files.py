"""A log in files of bounded size: the full ones are renamed NAME.0, NAME.1 and so on upwards.

Full files are numbered from 0, the newest, to one less than their greatest number; the oldest
is overwritten. Without a directory the same is kept in memory and vanishes with the process.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import Final, Protocol

MEMORY_LIMIT: Final = 16 << 20  # bytes of full files that are kept without a directory


class Store(Protocol):
    """Where the files are. The current one is written to; full ones are counted from 0."""

    def append(self, data: bytes) -> None:
        """Write to the current file. Raises OSError."""

    def rotate(self, most: int) -> None:
        """Begin a new file; of the full ones keep `most`. Raises OSError."""

    def full(self) -> int:
        """How many full files there are."""

    def read(self, number: int | None = None) -> bytes:
        """A full file, or the current one. Raises OSError."""

    def close(self) -> None:
        """Write no more."""


class DirectoryStore:
    """Files in a directory, which was opened by somebody who was allowed to.

    Nothing that is in the directory is followed or trusted: what has the name of one of these
    files is removed. The permissions are exactly `mode`.
    """

    def __init__(self, directory: int, name: str, mode: int) -> None:
        self._directory = directory
        self._name = name
        self._mode = mode
        self._full = 0
        for found in os.listdir(directory):
            stem, _, number = found.rpartition(".")
            if found == name or (stem == name and number.isdecimal()):
                os.unlink(found, dir_fd=directory)
        self._file = self._begin()

    def _begin(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        made = os.open(self._name, flags, self._mode, dir_fd=self._directory)
        os.fchmod(made, self._mode)  # whatever the umask
        return made

    def append(self, data: bytes) -> None:
        os.write(self._file, data)

    def rotate(self, most: int) -> None:
        for number in range(self._full, 0, -1):
            if number < most:
                self._rename(f"{self._name}.{number - 1}", f"{self._name}.{number}")
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{self._name}.{number}", dir_fd=self._directory)
        self._rename(self._name, f"{self._name}.0")
        self._full = min(self._full + 1, most)
        os.close(self._file)
        self._file = self._begin()

    def _rename(self, old: str, new: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # somebody has tidied up
            os.rename(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def full(self) -> int:
        return self._full

    def read(self, number: int | None = None) -> bytes:
        if number is None:
            return os.pread(self._file, os.fstat(self._file).st_size, 0)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        found = os.open(f"{self._name}.{number}", flags, dir_fd=self._directory)
        with os.fdopen(found, "rb") as file:
            return file.read()

    def close(self) -> None:
        os.close(self._file)


class MemoryStore:
    """The same in memory, where beyond `MEMORY_LIMIT` the oldest file goes too."""

    def __init__(self) -> None:
        self._current = bytearray()
        self._files: deque[bytes] = deque()

    def append(self, data: bytes) -> None:
        self._current += data

    def rotate(self, most: int) -> None:
        self._files.appendleft(bytes(self._current))
        self._current.clear()
        while len(self._files) > most or sum(map(len, self._files)) > MEMORY_LIMIT:
            self._files.pop()

    def full(self) -> int:
        return len(self._files)

    def read(self, number: int | None = None) -> bytes:
        return bytes(self._current) if number is None else self._files[number]

    def close(self) -> None:
        self._current.clear()
        self._files.clear()


class RotatingLog:
    """Lines, written at once. size: of a file, in bytes; files: the most full ones."""

    def __init__(self, store: Store, size: int, files: int) -> None:
        self._store = store
        self.size = size
        self.files = files
        self._written = 0

    def write(self, line: str) -> None:
        """Append a line; a file never grows beyond its size. Raises OSError."""
        data = line.encode("utf-8", "replace") + b"\n"
        if self._written and self._written + len(data) > self.size:
            self._store.rotate(self.files)
            self._written = 0
        self._store.append(data)
        self._written += len(data)

    def last(self, count: int) -> list[str]:
        """The newest lines, the newest last, read across the files."""
        lines: list[str] = []
        for number in (None, *range(self._store.full())):
            if len(lines) >= count:
                break
            try:
                text = self._store.read(number).decode("utf-8", "replace")
            except FileNotFoundError:
                break
            lines = text.splitlines() + lines
        return lines[-count:] if count else []

    def close(self) -> None:
        self._store.close()
