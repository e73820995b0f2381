"""Capture files as frames: pcap and pcapng, both byte orders, any time resolution.

Sources: draft-ietf-opsawg-pcap (pcap) and draft-ietf-opsawg-pcapng (pcapng).

The file is read or mapped once; frames are offsets into it, so nothing is copied. Memory is
bounded by the file's size, whatever its length fields claim.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from testbed.errors import TraceError

NANOSECONDS = 1_000_000_000
MAX_FRAME = 1 << 24
"""Bytes; a longer record is damage, not a packet (libpcap and wireshark draw the line here)."""

_MAPPED_FROM = 64 << 20

Buffer = bytes | mmap.mmap
"""The content of a file; a slice of it is `bytes`."""

Frame = tuple[int, int, int, int, int]
"""(time in ns since the epoch, link type, start, end, length on the wire); the captured bytes are
`data[start:end]`."""

_ByteOrder = Literal["<", ">"]

_PCAP_MAGIC: dict[bytes, tuple[_ByteOrder, int]] = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_SECTION_HEADER = b"\x0a\x0d\x0d\x0a"
_INTERFACE, _OBSOLETE_PACKET, _SIMPLE_PACKET, _ENHANCED_PACKET = 1, 2, 3, 6
_PACKETS = frozenset({_ENHANCED_PACKET, _OBSOLETE_PACKET})
_PACKET_HEADER = {order: struct.Struct(f"{order}IIIII").unpack_from for order in "<>"}
_OPTION_END, _OPTION_NAME, _OPTION_RESOLUTION, _OPTION_TIME_OFFSET = 0, 2, 9, 14


class Interface(msgspec.Struct, frozen=True):
    """Where frames were captured: link type, snap length in bytes (0: unlimited), time unit."""

    link_type: int
    snap_length: int
    ticks_per_second: int = 1_000_000
    time_offset: int = 0
    """Seconds to add to every time stamp."""
    name: str = ""


class CaptureFile:
    """One capture file; iterate over `frames()` once, then `truncated` is known.

    Raises TraceError, with file and offset, where the structure of the file is damaged. A file
    that merely stops in the middle of its last record is read up to there and `truncated` is set.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.interfaces: list[Interface] = []
        self.truncated = False
        self.data = _read(path)
        self.format: Literal["pcap", "pcapng"] = "pcap"
        magic = self.data[:4]
        if magic == _SECTION_HEADER:
            self.format = "pcapng"
        elif magic not in _PCAP_MAGIC:
            raise TraceError(
                f"{path}: not a capture file: expected the magic bytes of pcap or pcapng at "
                f"byte 0, found {magic.hex() or 'nothing'}. Give a file written by tcpdump -w."
            )

    def frames(self) -> Iterator[Frame]:
        """All frames in the order of the file."""
        return self._pcap_frames() if self.format == "pcap" else self._pcapng_frames()

    def _damaged(self, offset: int, what: str) -> NoReturn:
        raise TraceError(
            f"{self.path}: damaged at byte {offset}: {what}. "
            "Capture again, or cut the file before this offset."
        )

    # -- pcap ------------------------------------------------------------------------------

    def _pcap_frames(self) -> Iterator[Frame]:
        data = self.data
        size = len(data)
        order, tick = _PCAP_MAGIC[data[:4]]
        if size < 24:
            self._damaged(0, f"the pcap header has 24 bytes, found {size}")
        major, minor, _, _, snap_length, link = struct.unpack_from(f"{order}HHiIII", data, 4)
        if major != 2:
            self._damaged(4, f"expected pcap version 2.4, found {major}.{minor}")
        link &= 0xFFFF  # the upper bits tell the length of a frame check sequence
        self.interfaces.append(Interface(link, snap_length, NANOSECONDS // tick))
        record = struct.Struct(f"{order}IIII")
        unpack = record.unpack_from
        offset = 24
        last = size - record.size
        while offset <= last:
            seconds, fraction, captured, length = unpack(data, offset)
            start = offset + 16
            end = start + captured
            if end > size:
                if captured > MAX_FRAME:
                    self._damaged(offset, f"a record claims {captured} captured bytes")
                break
            yield seconds * NANOSECONDS + fraction * tick, link, start, end, length
            offset = end
        self.truncated = offset < size

    # -- pcapng ----------------------------------------------------------------------------

    def _pcapng_frames(self) -> Iterator[Frame]:
        data = self.data
        size = len(data)
        order: _ByteOrder = "<"
        section: list[Interface] = []
        offset = 0
        time = 0
        while size - offset >= 12:
            if data[offset : offset + 4] == _SECTION_HEADER:
                order = self._section_order(offset)
                section = []
                header = struct.Struct(f"{order}II")
            kind, length = header.unpack_from(data, offset)
            end = offset + length
            if length < 12 or length % 4 or length > MAX_FRAME + 4096:
                self._damaged(offset, f"a block of type {kind:#x} claims {length} bytes")
            if end > size:
                break
            if header.unpack_from(data, end - 8)[1] != length:
                self._damaged(end - 4, f"the block at {offset} does not end with its length")
            if kind in _PACKETS:
                frame = self._packet(section, order, kind, offset, end)
                time = frame[0]
                yield frame
            elif kind == _SIMPLE_PACKET:
                yield self._simple_packet(section, order, offset, end, time)
            elif kind == _INTERFACE:
                section.append(self._describe(order, offset, end))
                self.interfaces.append(section[-1])
            offset = end
        self.truncated = offset < size

    def _packet(
        self, section: list[Interface], order: _ByteOrder, kind: int, offset: int, end: int
    ) -> Frame:
        """An enhanced packet block, or an obsolete packet block."""
        if end - offset < 32:
            self._damaged(offset, f"a packet block of {end - offset} bytes has no header")
        index, high, low, captured, wire = _PACKET_HEADER[order](self.data, offset + 8)
        if kind == _OBSOLETE_PACKET:  # 16 bits of interface, 16 bits of drop count
            index = index & 0xFFFF if order == "<" else index >> 16
        interface = self._interface(section, index, offset)
        start = offset + 28
        if captured > end - 4 - start:
            self._damaged(
                offset, f"a packet block of {end - offset} bytes claims {captured} captured bytes"
            )
        return (
            _time(interface, high << 32 | low),
            interface.link_type,
            start,
            start + captured,
            wire,
        )

    def _section_order(self, offset: int) -> _ByteOrder:
        """The byte order of the section that starts at `offset`."""
        magic = self.data[offset + 8 : offset + 12]
        order: _ByteOrder
        if magic == b"\x4d\x3c\x2b\x1a":
            order = "<"
        elif magic == b"\x1a\x2b\x3c\x4d":
            order = ">"
        else:
            self._damaged(offset + 8, f"unknown byte order magic {magic.hex()}")
        version = self.data[offset + 12 : offset + 14]
        if len(version) == 2 and struct.unpack(f"{order}H", version)[0] != 1:
            self._damaged(offset + 12, "expected pcapng version 1")
        return order

    def _interface(self, section: list[Interface], index: int, offset: int) -> Interface:
        if index >= len(section):
            self._damaged(
                offset, f"a packet of interface {index}, but only {len(section)} are described"
            )
        return section[index]

    def _describe(self, order: _ByteOrder, offset: int, end: int) -> Interface:
        """An interface description block."""
        if end - offset < 20:
            self._damaged(offset, "an interface description without link type and snap length")
        link_type, _, snap_length = struct.unpack_from(f"{order}HHI", self.data, offset + 8)
        ticks, time_offset, name = 1_000_000, 0, ""
        for code, value in self._options(order, offset + 16, end - 4):
            if code == _OPTION_RESOLUTION and len(value) == 1:
                exponent = value[0] & 0x7F
                ticks = int(2**exponent) if value[0] & 0x80 else int(10**exponent)
            elif code == _OPTION_TIME_OFFSET and len(value) == 8:
                time_offset = struct.unpack(f"{order}q", value)[0]
            elif code == _OPTION_NAME:
                name = value.decode("utf-8", "replace")
        return Interface(link_type, snap_length, ticks, time_offset, name)

    def _options(self, order: _ByteOrder, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
        """(code, value) of each option; stops where the list ends or a length does not fit."""
        while offset + 4 <= end:
            code, length = struct.unpack_from(f"{order}HH", self.data, offset)
            if code == _OPTION_END or offset + 4 + length > end:
                return
            yield code, self.data[offset + 4 : offset + 4 + length]
            offset += 4 + (length + 3 & ~3)

    def _simple_packet(
        self, section: list[Interface], order: _ByteOrder, offset: int, end: int, time: int
    ) -> Frame:
        """A simple packet block has no time stamp: it gets that of the packet before it."""
        interface = self._interface(section, 0, offset)
        if end - offset < 16:
            self._damaged(offset, "a simple packet block without a length")
        (wire,) = struct.unpack_from(f"{order}I", self.data, offset + 8)
        start = offset + 12
        captured = min(wire, interface.snap_length or wire, end - 4 - start)
        return time, interface.link_type, start, start + captured, wire


def _time(interface: Interface, ticks: int) -> int:
    """`ticks` of the interface's clock as ns since the epoch."""
    unit = interface.ticks_per_second
    if unit == NANOSECONDS:
        time = ticks
    elif unit == 1_000_000:
        time = ticks * 1000
    else:
        time = ticks * NANOSECONDS // unit
    return time + interface.time_offset * NANOSECONDS


def _read(path: Path) -> Buffer:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise TraceError(f"{path}: expected a regular file. Save the capture to a file first.")
        with path.open("rb", buffering=0) as file:
            return _read_all(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TraceError(f"{path}: cannot be read: {reason}.") from error


def _read_all(file: FileIO) -> Buffer:
    """The content: a copy of a small file, a mapping of a large one.

    Copying a large file costs more than parsing it. But who shortens a file that is mapped kills
    the process that reads it (SIGBUS, mmap(2)), so what is quickly copied is copied.
    """
    size = os.fstat(file.fileno()).st_size
    if size < _MAPPED_FROM or not size:
        return file.readall()
    return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
