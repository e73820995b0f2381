"""The log of what became of every packet of a link, as the userspace emulator writes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

from testbed.errors import TraceError

COLUMNS: Final = ("direction", "packet", "bytes", "waiting", "in_ns", "due_ns", "out_ns", "verdict")
_HEADER: Final = ",".join(COLUMNS)
_LONGEST_LINE: Final = 400
_LONGEST_NUMBER: Final = 20


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """One packet that left a link, or was dropped in it.

    direction: `forward` or `reverse`. number: counted from 1 in each direction as packets come;
    both copies of a duplicated one have the same. size: bytes of the frame; waiting: packets in
    the queue when it came. Times are nanoseconds of the real-time clock, the one of captures:
    came; due: when it was to leave, None if it never was; left: when it did, or was dropped.
    verdict: `sent`, or the cause of the drop.
    """

    direction: str
    number: int
    size: int
    waiting: int
    came: int
    due: int | None
    left: int
    verdict: str

    @property
    def dropped(self) -> bool:
        return self.verdict != "sent"


def read_fates(path: str | os.PathLike[str]) -> Iterator[Fate]:
    """The fates in a file, one after the other, in the order in which packets left.

    Raises `TraceError` with the line for what is no such file, or stops in the middle of a line.
    """
    try:
        with Path(path).open(encoding="ascii", errors="replace", newline="\n") as file:
            yield from _read(file, os.fspath(path))
    except OSError as error:
        raise TraceError(f"{os.fspath(path)}: cannot be read: {error.strerror}.") from None


def _read(file: IO[str], name: str) -> Iterator[Fate]:
    first = file.readline(_LONGEST_LINE)
    if first.rstrip("\n") != _HEADER:
        raise TraceError(f"{name}:1: this is no log of fates; its first line must be {_HEADER}.")
    number = 1
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if not line.endswith("\n"):
            raise TraceError(f"{name}:{number}: the file stops in the middle of a line.")
        fate = _fate(line[:-1].split(","))
        if fate is None:
            raise TraceError(f"{name}:{number}: expected {_HEADER}, got {line[:60]!r}.")
        yield fate


def _fate(fields: list[str]) -> Fate | None:
    if len(fields) != len(COLUMNS):
        return None
    direction, *numbers, verdict = fields
    packet, size, waiting, came, due, left = numbers
    needed = (packet, size, waiting, came, left, due or "0")
    words = direction in ("forward", "reverse") and verdict.isascii() and verdict.isalpha()
    if not words or not all(_is_number(one) for one in needed):
        return None
    return Fate(
        direction=direction,
        number=int(packet),
        size=int(size),
        waiting=int(waiting),
        came=int(came),
        due=int(due) if due else None,
        left=int(left),
        verdict=verdict,
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER
