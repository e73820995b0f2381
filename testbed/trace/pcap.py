"""Capture files as frames: pcap and pcapng, both byte orders, any time resolution.

Source: draft-ietf-opsawg-pcap. The other format is read by `testbed.trace.pcapng`.

The file is read or mapped once; frames are offsets into it, so nothing is copied. Memory is
bounded by the file's size, whatever its length fields claim.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, Literal

import numpy as np

from testbed.errors import TraceError
from testbed.trace.frames import (
    BATCH,
    MAX_FRAME,
    NANOSECONDS,
    CaptureInterface,
    DamagedStructure,
    Frame,
    Frames,
    gather,
)
from testbed.trace.pcapng import Pcapng
from testbed.trace.source import PCAP_MAGIC, SECTION_HEADER, Buffer, ByteOrder, read_source

Progress = Callable[[int, int], object]
"""Is told how many bytes of a file are read, and how many there are."""
_RECORD_HEADER: Final = 16  # bytes
_RELEASED_AT_ONCE: Final = 32 << 20


class CaptureFile:
    """One capture file; iterate over it once, then the other attributes are known.

    interfaces: as described in the file, in order.
    truncated: the file stops in the middle of its last record.
    lost: packets that, by the file's own counters, were not captured for want of room.
    transcript: what is to be known of a text log; None for a capture.

    Raises TraceError for what is no capture file, or is damaged before its first record.
    """

    def __init__(self, source: str | os.PathLike[str] | BinaryIO) -> None:
        read = read_source(source)
        self.path = path = read.path
        self.data = read.data
        self.transcript = read.transcript
        self.truncated = False
        self._damage = ""
        self._unpacked_badly = read.damage
        self._reader: Pcapng | _Pcap
        self.format: Literal["pcap", "pcapng"] = "pcap"
        magic = self.data[:4]
        if magic == SECTION_HEADER:
            self.format = "pcapng"
            self._reader = Pcapng(self.data)
        elif magic in PCAP_MAGIC:
            self._reader = _Pcap(self.data)
        else:
            raise TraceError(
                f"{path}: not a capture file: expected the magic bytes of pcap or pcapng at "
                f"byte 0, found {magic.hex() or 'nothing'}. Give a file written by tcpdump -w, or "
                "what tcpdump prints."
            )

    @property
    def interfaces(self) -> list[CaptureInterface]:
        return self._reader.interfaces

    @property
    def lost(self) -> int:
        if not isinstance(self._reader, Pcapng):
            return 0
        drops = self._reader.drops
        per_interface = {interface for interface, _ in drops}
        return sum(
            max(drops[interface, "packets"], drops[interface, "statistics"])
            for interface in per_interface
        )

    @property
    def damage(self) -> str:
        """Where and how the file is damaged: "damaged at byte 24: ..."; frames end there.

        Empty for a sound file.
        """
        if self._unpacked_badly and not self._damage:
            return f"damaged at byte {len(self.data)}: {self._unpacked_badly}"
        return self._damage

    def frames(self) -> Iterator[Frame]:
        """All frames in the order of the file, up to its end or to where it is damaged."""
        for batch in self.batches():
            yield from batch.each()

    def batches(self, progress: Progress | None = None) -> Iterator[Frames]:
        """The same, many at a time as columns."""
        released = 0
        try:
            for frames in self._reader.batches():
                yield frames
                if progress is not None:
                    progress(self._reader.offset, len(self.data))
                if self._reader.offset - released >= _RELEASED_AT_ONCE:
                    released = _release(self.data, released, self._reader.offset)
        except DamagedStructure as damage:
            if not self.interfaces:
                raise TraceError(
                    f"{self.path}: {damage}. Nothing can be read from it: capture again."
                ) from None
            self._damage = str(damage)
            return
        self.truncated = self._reader.offset < len(self.data) and not self._unpacked_badly


class _Pcap:
    """The records of a pcap file, read once. offset: how far it was read."""

    def __init__(self, data: Buffer) -> None:
        self.data = data
        self.interfaces: list[CaptureInterface] = []
        self.offset = 0

    def batches(self) -> Iterator[Frames]:
        """All frames; raises DamagedStructure where the structure is damaged."""
        data = self.data
        order, tick = PCAP_MAGIC[data[:4]]
        snap_length, link = self._header(order, tick)
        most = max(snap_length, MAX_FRAME)
        names = "seconds", "fraction", "captured", "wire"
        record = np.dtype([(name, f"{order}u4") for name in names])
        while starts := self._run(order):
            at = np.array(starts, np.int64)
            heads = gather(data, at, _RECORD_HEADER).view(record)
            captured = heads["captured"].astype(np.int64)
            at += _RECORD_HEADER
            ends = at + captured
            sound = (captured <= most) & (ends <= len(data))
            count = len(at) if sound.all() else int(np.argmin(sound))
            if count:
                time = heads["seconds"][:count].astype(np.int64) * NANOSECONDS
                time += heads["fraction"][:count].astype(np.int64) * tick
                links, interfaces = (np.broadcast_to(np.int64(one), count) for one in (link, 0))
                wire = heads["wire"][:count].astype(np.int64)
                self.offset = int(ends[count - 1])
                yield Frames(time, links, at[:count], ends[:count], wire, interfaces)
            if count < len(at):
                if captured[count] > most:
                    claim = f"a record claims {captured[count]} captured bytes"
                    raise DamagedStructure(starts[count], claim)
                return

    def _run(self, order: ByteOrder) -> list[int]:
        """Where the next records start, if their lengths are right."""
        data, offset = self.data, self.offset
        unpack = struct.Struct(f"{order}8xI").unpack_from
        last = len(data) - _RECORD_HEADER
        starts: list[int] = []
        for _ in range(BATCH):
            if offset > last:
                break
            starts.append(offset)  # not by a bound method: the interpreter has a short cut for this
            offset += unpack(data, offset)[0] + _RECORD_HEADER
        return starts

    def _header(self, order: ByteOrder, tick: int) -> tuple[int, int]:
        """Snap length and link type."""
        data = self.data
        if len(data) < 24:
            raise DamagedStructure(0, f"the pcap header has 24 bytes, found {len(data)}")
        major, minor, _, _, snap_length, link = struct.unpack_from(f"{order}HHiIII", data, 4)
        if major != 2:
            raise DamagedStructure(4, f"expected pcap version 2.4, found {major}.{minor}")
        link &= 0xFFFF  # the upper bits tell the length of a frame check sequence
        self.interfaces.append(CaptureInterface(link, snap_length, NANOSECONDS // tick))
        self.offset = 24
        return snap_length, link


def _release(data: Buffer, start: int, end: int) -> int:
    """Let the kernel have the memory of what was read of a mapped file; where to go on from."""
    if isinstance(data, mmap.mmap):
        start -= start % mmap.PAGESIZE
        data.madvise(mmap.MADV_DONTNEED, start, end - start)
    return end
