"""Frames of a pcapng file (draft-ietf-opsawg-pcapng): all blocks that hold packets, any section."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from testbed.trace.frames import (
    BATCH,
    MAX_FRAME,
    NANOSECONDS,
    CaptureInterface,
    DamagedStructure,
    Frame,
    Frames,
    Offsets,
    gather,
)
from testbed.trace.source import SECTION_HEADER, Buffer, ByteOrder

_BYTE_ORDER: Final[dict[ByteOrder, Literal["little", "big"]]] = {"<": "little", ">": "big"}
_INTERFACE, _OBSOLETE_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET = 1, 2, 3, 6
_PACKETS = frozenset({_ENHANCED_PACKET, _OBSOLETE_PACKET})
_PACKET_HEADER = {order: struct.Struct(f"{order}IIIII").unpack_from for order in "<>"}
_INTERFACE_STATISTICS = 5
_OPTION_END, _OPTION_NAME, _OPTION_RESOLUTION, _OPTION_TIME_OFFSET = 0, 2, 9, 14
_PACKET_DROPS = 4
_STATISTICS_DROPS = (5, 7)  # by the interface, by the operating system
_UNKNOWN_DROPS = 0xFFFF  # in an obsolete packet block
_LEAST_BLOCK, _LEAST_PACKET = 12, 32
_LEAST_OPTIONS = 16  # bytes from where they begin to the block's end, if they tell of drops
_LATEST: Final = (1 << 63) - 1
_FINEST_UNIT: Final = 1 << 33  # ticks a second, of which a second's rest in ns fits 64 bits


class Pcapng:
    """The blocks of one file, read once; `interfaces` and `drops` are known then.

    offset: how far it was read. drops: by interface and by whether packets or statistics told.
    """

    def __init__(self, data: Buffer) -> None:
        self.data = data
        self.interfaces: list[CaptureInterface] = []
        self.drops: Counter[tuple[int, str]] = Counter()
        self.offset = 0
        self._section: list[CaptureInterface] = []
        self._order: ByteOrder = "<"
        self._header = struct.Struct("<II")
        self._time = 0

    def batches(self) -> Iterator[Frames]:
        """All frames; raises DamagedStructure where the structure is damaged."""
        size = len(self.data)
        while size - self.offset >= _LEAST_BLOCK:
            if self.data[self.offset : self.offset + 4] == SECTION_HEADER:
                self._begin_section()
            kind, length = self._header.unpack_from(self.data, self.offset)
            if kind == _ENHANCED_PACKET:
                frames = self._sound_packets()
                if len(frames):
                    yield frames
                    continue
            if not (yield from self._block(kind, length)):
                return

    def _block(self, kind: int, length: int) -> Generator[Frames, None, bool]:
        """Read one block; False where the file stops within it."""
        data, offset, order = self.data, self.offset, self._order
        end = offset + length
        beyond = end > len(data)
        if length < _LEAST_BLOCK or length % 4 or (beyond and length > MAX_FRAME + 4096):
            raise DamagedStructure(offset, f"a block of type {kind:#x} claims {length} bytes")
        if beyond:
            return False
        if self._header.unpack_from(data, end - 8)[1] != length:
            raise DamagedStructure(end - 4, f"the block at {offset} does not end with its length")
        if kind in _PACKETS or kind == _SIMPLE_PACKET:
            simple = kind == _SIMPLE_PACKET
            frame = self._simple_packet(end) if simple else self._packet(kind, end)
            self._time = frame[0]
            yield Frames.of([frame])
        elif kind == _INTERFACE:
            self._section.append(self._describe(end))
            self.interfaces.append(self._section[-1])
        elif kind == _INTERFACE_STATISTICS:
            if end - offset < 24:
                raise DamagedStructure(offset, "interface statistics without an interface")
            (index,) = struct.unpack_from(f"{order}I", data, offset + 8)
            # Each block replaces earlier ones.
            self.drops[self._first + index, "statistics"] = sum(
                int.from_bytes(value, _BYTE_ORDER[order])
                for code, value in self._options(offset + 20, end - 4)
                if code in _STATISTICS_DROPS and len(value) == 8
            )
        self.offset = end
        return True

    # -- many packets at once --------------------------------------------------------------

    def _sound_packets(self) -> Frames:
        """The enhanced packet blocks from here on, as far as they are beyond doubt."""
        data = self.data
        starts = np.array(self._run(), np.int64)
        order = self._order
        fields = [(name, f"{order}u4") for name in ("kind", "length", "index", "high", "low")]
        fields += [("captured", f"{order}u4"), ("wire", f"{order}u4")]
        heads = gather(data, starts, 28).view(np.dtype(fields))
        length = heads["length"].astype(np.int64)
        captured = heads["captured"].astype(np.int64)
        index = heads["index"].astype(np.int64)
        ends = starts + length
        sound = (length % 4 == 0) & (ends <= len(data)) & (index < len(self._section))
        sound &= captured <= length - _LEAST_PACKET
        count = _until(sound)
        tails = gather(data, ends[:count] - 4, 4).view(f"{order}u4")
        count = _until(tails == length[:count])
        starts, ends, captured, index = (
            column[:count] for column in (starts, ends, captured, index)
        )
        if not count:
            return Frames.of([])
        ticks = heads["high"][:count].astype(np.uint64) << np.uint64(32) | heads["low"][:count]
        bodies = starts + 28
        options = bodies + (captured + 3 & ~3)
        for row in np.flatnonzero(ends - options >= _LEAST_OPTIONS).tolist():
            self._note_drops(self._first + int(index[row]), int(options[row]), int(ends[row]))
        time = self._times(ticks, index)
        links = np.array([one.link_type for one in self._section])
        self._time, self.offset = int(time[-1]), int(ends[-1])
        wire = heads["wire"][:count].astype(np.int64)
        return Frames(time, links[index], bodies, bodies + captured, wire, index + self._first)

    def _run(self) -> list[int]:
        """Where enhanced packet blocks start that follow each other."""
        data, offset, unpack = self.data, self.offset, self._header.unpack_from
        last = len(data) - _LEAST_PACKET
        starts: list[int] = []
        for _ in range(BATCH):
            if offset > last:
                break
            kind, length = unpack(data, offset)
            if kind != _ENHANCED_PACKET or length < _LEAST_PACKET:
                break
            starts.append(offset)  # as in `pcap`
            offset += length
        return starts

    def _times(self, ticks: NDArray[np.uint64], index: Offsets) -> Offsets:
        """ns since the epoch of packets of several interfaces."""
        times = np.empty(len(ticks), np.int64)
        for one in np.unique(index).tolist():
            rows = index == one
            times[rows] = _times_of(self._section[one], ticks[rows])
        return times

    # -- one block at a time ---------------------------------------------------------------

    @property
    def _first(self) -> int:
        """The number of this section's first interface among all."""
        return len(self.interfaces) - len(self._section)

    def _begin_section(self) -> None:
        offset = self.offset
        magic = self.data[offset + 8 : offset + 12]
        if magic == b"\x4d\x3c\x2b\x1a":
            self._order = "<"
        elif magic == b"\x1a\x2b\x3c\x4d":
            self._order = ">"
        else:
            raise DamagedStructure(offset + 8, f"unknown byte order magic {magic.hex()}")
        version = self.data[offset + 12 : offset + 14]
        if len(version) == 2 and struct.unpack(f"{self._order}H", version)[0] != 1:
            raise DamagedStructure(offset + 12, "expected pcapng version 1")
        self._section = []
        self._header = struct.Struct(f"{self._order}II")

    def _packet(self, kind: int, end: int) -> Frame:
        """An enhanced packet block, or an obsolete packet block."""
        data, offset, order = self.data, self.offset, self._order
        if end - offset < _LEAST_PACKET:
            raise DamagedStructure(offset, f"a packet block of {end - offset} bytes has no header")
        index, high, low, captured, wire = _PACKET_HEADER[order](data, offset + 8)
        drops = 0
        if kind == _OBSOLETE_PACKET:  # 16 bits of interface, 16 bits of drop count
            index, drops = struct.unpack_from(f"{order}HH", data, offset + 8)
        interface = self._interface(index)
        start = offset + 28
        if captured > end - 4 - start:
            raise DamagedStructure(
                offset, f"a packet block of {end - offset} bytes claims {captured} captured bytes"
            )
        if drops not in (0, _UNKNOWN_DROPS):
            self.drops[self._first + index, "packets"] += drops
        elif kind == _ENHANCED_PACKET:
            self._note_drops(self._first + index, start + (captured + 3 & ~3), end)
        time = _time_of(interface, high << 32 | low)
        return time, interface.link_type, start, start + captured, wire, self._first + index

    def _note_drops(self, index: int, options: int, end: int) -> None:
        """What the options of a packet, if there are any, tell of packets dropped before it."""
        for code, value in self._options(options, end - 4):
            if code == _PACKET_DROPS and len(value) == 8:
                self.drops[index, "packets"] += int.from_bytes(value, _BYTE_ORDER[self._order])

    def _simple_packet(self, end: int) -> Frame:
        """A simple packet block has no time stamp: it gets that of the packet before it."""
        interface = self._interface(0)
        if end - self.offset < 16:
            raise DamagedStructure(self.offset, "a simple packet block without a length")
        (wire,) = struct.unpack_from(f"{self._order}I", self.data, self.offset + 8)
        start = self.offset + 12
        captured = min(wire, interface.snap_length or wire, end - 4 - start)
        return self._time, interface.link_type, start, start + captured, wire, self._first

    def _interface(self, index: int) -> CaptureInterface:
        if index >= len(self._section):
            raise DamagedStructure(
                self.offset,
                f"a packet of interface {index}, but only {len(self._section)} are described",
            )
        return self._section[index]

    def _describe(self, end: int) -> CaptureInterface:
        """An interface description block."""
        offset, order = self.offset, self._order
        if end - offset < 20:
            raise DamagedStructure(
                offset, "an interface description without link type and snap length"
            )
        link_type, _, snap_length = struct.unpack_from(f"{order}HHI", self.data, offset + 8)
        ticks, time_offset, name = 1_000_000, 0, ""
        for code, value in self._options(offset + 16, end - 4):
            if code == _OPTION_RESOLUTION and len(value) == 1:
                exponent = value[0] & 0x7F
                ticks = int(2**exponent) if value[0] & 0x80 else int(10**exponent)
            elif code == _OPTION_TIME_OFFSET and len(value) == 8:
                time_offset = struct.unpack(f"{order}q", value)[0]
            elif code == _OPTION_NAME:
                name = value.decode("utf-8", "replace")
        return CaptureInterface(link_type, snap_length, ticks, time_offset, name)

    def _options(self, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
        """(code, value) of each option; stops where the list ends or a length does not fit."""
        while offset + 4 <= end:
            code, length = struct.unpack_from(f"{self._order}HH", self.data, offset)
            if code == _OPTION_END or offset + 4 + length > end:
                return
            yield code, self.data[offset + 4 : offset + 4 + length]
            offset += 4 + (length + 3 & ~3)


def _until(holds: NDArray[np.bool_]) -> int:
    """How many elements come before the first that is false."""
    return len(holds) if holds.all() else int(np.argmin(holds))


def _time_of(interface: CaptureInterface, ticks: int) -> int:
    """`ticks` of the interface's clock as ns since the epoch, at most what 64 bits hold."""
    time = ticks * NANOSECONDS // interface.ticks_per_second + interface.time_offset * NANOSECONDS
    return max(-_LATEST, min(time, _LATEST))


def _times_of(interface: CaptureInterface, ticks: NDArray[np.uint64]) -> Offsets:
    unit = interface.ticks_per_second
    ends = (_time_of(interface, int(tick)) for tick in (ticks.min(), ticks.max()))
    if unit > _FINEST_UNIT or any(abs(end) == _LATEST for end in ends):
        return np.array([_time_of(interface, tick) for tick in ticks.tolist()], np.int64)
    if unit == NANOSECONDS:
        times = ticks
    elif NANOSECONDS % unit == 0:
        times = ticks * np.uint64(NANOSECONDS // unit)
    else:
        seconds, rest = np.divmod(ticks, np.uint64(unit))
        times = seconds * np.uint64(NANOSECONDS)
        times += rest * np.uint64(NANOSECONDS) // np.uint64(unit)
    # What overflows 64 bits here comes back with an offset before the epoch.
    return times.view(np.int64) + np.uint64(interface.time_offset * NANOSECONDS % (1 << 64)).astype(
        np.int64
    )
