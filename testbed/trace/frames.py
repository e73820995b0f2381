"""Frames of a capture file as columns, thousands at a time, and where they were captured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from testbed.trace.source import Buffer

NANOSECONDS: Final = 1_000_000_000
MAX_FRAME: Final = 1 << 18
"""Bytes; a record longer than this and than the snap length is damage, not a packet (libpcap's
MAXIMUM_SNAPLEN, wireshark's WTAP_MAX_PACKET_SIZE_STANDARD)."""
BATCH: Final = 1 << 15
"""Frames that are read at once: few enough for the processor's cache, many enough for numpy."""

Offsets: TypeAlias = NDArray[np.int64]

Frame = tuple[int, int, int, int, int, int]
"""(time in ns since the epoch, link type, start, end, length on the wire, index of the interface);
the captured bytes are `data[start:end]`."""


class CaptureInterface(msgspec.Struct, frozen=True):
    """Where frames were captured: link type, snap length in bytes (0: unlimited), time unit."""

    link_type: int
    snap_length: int
    ticks_per_second: int = 1_000_000
    time_offset: int = 0
    """Seconds to add to every time stamp."""
    name: str = ""


class DamagedStructure(Exception):
    """Where the structure of a file is damaged: offset in bytes, and what is wrong there."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"damaged at byte {offset}: {what}")


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames that follow each other in a file: the fields of `Frame` as columns of equal length."""

    time: Offsets
    link: Offsets
    start: Offsets
    end: Offsets
    wire: Offsets
    interface: Offsets

    @classmethod
    def of(cls, frames: Iterable[Frame]) -> Frames:
        """The columns of frames given one by one."""
        columns = np.array(list(frames), np.int64).reshape(-1, 6).T
        return cls(*columns)

    def __len__(self) -> int:
        return len(self.time)

    def each(self, rows: Offsets | slice = slice(None)) -> Iterator[Frame]:
        """Some or all of the frames, one by one."""
        columns = self.time, self.link, self.start, self.end, self.wire, self.interface
        return zip(*(column[rows].tolist() for column in columns), strict=True)


def gather(data: Buffer, at: Offsets, size: int) -> NDArray[np.void]:
    """The `size` bytes at each offset, as one element each; all must be inside of `data`."""
    every = np.ndarray((max(len(data) - size + 1, 0),), f"V{size}", data, strides=(1,))
    return every[at]


def gather_padded(data: Buffer, at: Offsets, size: int) -> NDArray[np.void]:
    """The same for bytes that may go beyond the end of `data`, with zeros there."""
    last = len(data) - size
    if not len(at) or int(at.max()) <= last:
        return gather(data, at, size)
    beyond = at > last
    found = (
        gather(data, np.where(beyond, 0, at), size) if last >= 0 else np.zeros(len(at), f"V{size}")
    )
    begin = max(last, 0)
    tail = bytes(data[begin:]) + bytes(size)
    found[beyond] = gather(tail, at[beyond] - begin, size)
    return found
