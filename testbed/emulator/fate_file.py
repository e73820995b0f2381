"""The file that the fates of a link's packets are written to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO

from testbed.errors import CaptureError


class FateFile:
    """`path` is in the directory for captures; without one it is a file without a name, which
    can be opened by `path` as long as the lab is there."""

    def __init__(self, link: str, directory: Path | None) -> None:
        self._file: IO[bytes]
        if directory is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
            self.path = Path(f"/proc/{os.getpid()}/fd/{self._file.fileno()}")
            return
        self.path = directory / f"{link.replace(':', '-')}.fates.csv"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("wb")
        except OSError as error:
            raise CaptureError(
                f"The log of the link {link} cannot be written to {self.path}: "
                f"{os.strerror(error.errno or 0)}."
            ) from error

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        """Give the file up; an unnamed one is gone with it."""
        self._file.close()
