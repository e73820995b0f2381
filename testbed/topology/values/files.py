"""Files that a topology names beside itself."""

from __future__ import annotations

import stat
from pathlib import Path

from testbed.errors import InvalidValue


def read_bounded(path: Path, most: int, limit: str) -> bytes:
    """The content of an ordinary file of at most `most` bytes; `limit` says so in words.

    Raises InvalidValue.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would have us wait for its writer
            raise InvalidValue(f"{path} is not an ordinary file")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InvalidValue(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in the name
        raise InvalidValue(f"{str(path)!r} cannot be read: {error}") from None
    if len(data) > most:
        raise InvalidValue(f"{path} is too large: {limit}")
    return data
