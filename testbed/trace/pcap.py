"""Capture files as frames: pcap and pcapng, both byte orders, any time resolution.

Sources: draft-ietf-opsawg-pcap (pcap) and draft-ietf-opsawg-pcapng (pcapng).

The file is read or mapped once; frames are offsets into it, so nothing is copied. Memory is
bounded by the file's size, whatever its length fields claim.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, Literal, NoReturn

import msgspec

from testbed.errors import TraceError
from testbed.trace.source import read_source

NANOSECONDS = 1_000_000_000
MAX_FRAME = 1 << 18
"""Bytes; a record longer than this and than the snap length is damage, not a packet (libpcap's
MAXIMUM_SNAPLEN, wireshark's WTAP_MAX_PACKET_SIZE_STANDARD)."""

Frame = tuple[int, int, int, int, int, int]
"""(time in ns since the epoch, link type, start, end, length on the wire, index of the interface);
the captured bytes are `data[start:end]`."""

_ByteOrder = Literal["<", ">"]
_BYTE_ORDER: dict[_ByteOrder, Literal["little", "big"]] = {"<": "little", ">": "big"}

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
_INTERFACE_STATISTICS = 5
_OPTION_END, _OPTION_NAME, _OPTION_RESOLUTION, _OPTION_TIME_OFFSET = 0, 2, 9, 14
_PACKET_DROPS = 4
_STATISTICS_DROPS = (5, 7)  # by the interface, by the operating system
_UNKNOWN_DROPS = 0xFFFF  # in an obsolete packet block


class CaptureInterface(msgspec.Struct, frozen=True):
    """Where frames were captured: link type, snap length in bytes (0: unlimited), time unit."""

    link_type: int
    snap_length: int
    ticks_per_second: int = 1_000_000
    time_offset: int = 0
    """Seconds to add to every time stamp."""
    name: str = ""


class _Damage(Exception):
    """Where the structure of a file is damaged: offset in bytes, and what is wrong there."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"damaged at byte {offset}: {what}")


class CaptureFile:
    """One capture file; iterate over `frames()` once, then the other attributes are known.

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
        self.interfaces: list[CaptureInterface] = []
        self.truncated = False
        self._damage = ""
        self._unpacked_badly = read.damage
        self._drops: Counter[tuple[int, str]] = Counter()
        self.format: Literal["pcap", "pcapng"] = "pcap"
        magic = self.data[:4]
        if magic == _SECTION_HEADER:
            self.format = "pcapng"
        elif magic not in _PCAP_MAGIC:
            raise TraceError(
                f"{path}: not a capture file: expected the magic bytes of pcap or pcapng at "
                f"byte 0, found {magic.hex() or 'nothing'}. Give a file written by tcpdump -w, or "
                "what tcpdump prints."
            )

    @property
    def lost(self) -> int:
        per_interface = {interface for interface, _ in self._drops}
        return sum(
            max(self._drops[interface, "packets"], self._drops[interface, "statistics"])
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
        return self._pcap_frames() if self.format == "pcap" else self._pcapng_frames()

    def _stop_at(self, damage: _Damage) -> None:
        """End reading where the file is damaged."""
        if not self.interfaces:
            raise TraceError(
                f"{self.path}: {damage}. Nothing can be read from it: capture again."
            ) from None
        self._damage = str(damage)

    def _damaged(self, offset: int, what: str) -> NoReturn:
        raise _Damage(offset, what)

    # -- pcap ------------------------------------------------------------------------------

    def _pcap_frames(self) -> Iterator[Frame]:
        data = self.data
        size = len(data)
        order, tick = _PCAP_MAGIC[data[:4]]
        try:
            snap_length, link = self._pcap_header(order, tick)
        except _Damage as damage:
            self._stop_at(damage)
            return
        record = struct.Struct(f"{order}IIII")
        unpack = record.unpack_from
        offset = 24
        last = size - record.size
        most = max(snap_length, MAX_FRAME)
        while offset <= last:
            seconds, fraction, captured, length = unpack(data, offset)
            start = offset + 16
            end = start + captured
            if captured > most or end > size:
                if captured > most:
                    self._stop_at(_Damage(offset, f"a record claims {captured} captured bytes"))
                    return
                break
            yield seconds * NANOSECONDS + fraction * tick, link, start, end, length, 0
            offset = end
        self.truncated = offset < size and not self._unpacked_badly

    def _pcap_header(self, order: _ByteOrder, tick: int) -> tuple[int, int]:
        """Snap length and link type."""
        data = self.data
        if len(data) < 24:
            self._damaged(0, f"the pcap header has 24 bytes, found {len(data)}")
        major, minor, _, _, snap_length, link = struct.unpack_from(f"{order}HHiIII", data, 4)
        if major != 2:
            self._damaged(4, f"expected pcap version 2.4, found {major}.{minor}")
        link &= 0xFFFF  # the upper bits tell the length of a frame check sequence
        self.interfaces.append(CaptureInterface(link, snap_length, NANOSECONDS // tick))
        return snap_length, link

    # -- pcapng ----------------------------------------------------------------------------

    def _pcapng_frames(self) -> Iterator[Frame]:
        try:
            yield from self._pcapng_blocks()
        except _Damage as damage:
            self._stop_at(damage)

    def _pcapng_blocks(self) -> Iterator[Frame]:
        data = self.data
        size = len(data)
        order: _ByteOrder = "<"
        section: list[CaptureInterface] = []
        offset = 0
        time = 0
        while size - offset >= 12:
            if data[offset : offset + 4] == _SECTION_HEADER:
                order = self._section_order(offset)
                section = []
                header = struct.Struct(f"{order}II")
            kind, length = header.unpack_from(data, offset)
            end = offset + length
            if length < 12 or length % 4 or (end > size and length > MAX_FRAME + 4096):
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
            elif kind == _INTERFACE_STATISTICS:
                self._note_statistics(len(self.interfaces) - len(section), order, offset, end)
            offset = end
        self.truncated = offset < size and not self._unpacked_badly

    def _packet(
        self, section: list[CaptureInterface], order: _ByteOrder, kind: int, offset: int, end: int
    ) -> Frame:
        """An enhanced packet block, or an obsolete packet block."""
        if end - offset < 32:
            self._damaged(offset, f"a packet block of {end - offset} bytes has no header")
        index, high, low, captured, wire = _PACKET_HEADER[order](self.data, offset + 8)
        drops = 0
        if kind == _OBSOLETE_PACKET:  # 16 bits of interface, 16 bits of drop count
            index, drops = struct.unpack_from(f"{order}HH", self.data, offset + 8)
            drops = 0 if drops == _UNKNOWN_DROPS else drops
        interface = self._interface(section, index, offset)
        start = offset + 28
        if captured > end - 4 - start:
            self._damaged(
                offset, f"a packet block of {end - offset} bytes claims {captured} captured bytes"
            )
        index += len(self.interfaces) - len(section)
        options = start + (captured + 3 & ~3)
        if kind == _ENHANCED_PACKET and end - options >= 16:
            for code, value in self._options(order, options, end - 4):
                if code == _PACKET_DROPS and len(value) == 8:
                    drops = int.from_bytes(value, _BYTE_ORDER[order])
        if drops:
            self._drops[index, "packets"] += drops
        return (
            _time(interface, high << 32 | low),
            interface.link_type,
            start,
            start + captured,
            wire,
            index,
        )

    def _note_statistics(self, first: int, order: _ByteOrder, offset: int, end: int) -> None:
        """Keep the drop counters of an interface statistics block; each replaces earlier ones."""
        if end - offset < 24:
            self._damaged(offset, "interface statistics without an interface")
        (index,) = struct.unpack_from(f"{order}I", self.data, offset + 8)
        self._drops[first + index, "statistics"] = sum(
            int.from_bytes(value, _BYTE_ORDER[order])
            for code, value in self._options(order, offset + 20, end - 4)
            if code in _STATISTICS_DROPS and len(value) == 8
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

    def _interface(
        self, section: list[CaptureInterface], index: int, offset: int
    ) -> CaptureInterface:
        if index >= len(section):
            self._damaged(
                offset, f"a packet of interface {index}, but only {len(section)} are described"
            )
        return section[index]

    def _describe(self, order: _ByteOrder, offset: int, end: int) -> CaptureInterface:
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
        return CaptureInterface(link_type, snap_length, ticks, time_offset, name)

    def _options(self, order: _ByteOrder, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
        """(code, value) of each option; stops where the list ends or a length does not fit."""
        while offset + 4 <= end:
            code, length = struct.unpack_from(f"{order}HH", self.data, offset)
            if code == _OPTION_END or offset + 4 + length > end:
                return
            yield code, self.data[offset + 4 : offset + 4 + length]
            offset += 4 + (length + 3 & ~3)

    def _simple_packet(
        self, section: list[CaptureInterface], order: _ByteOrder, offset: int, end: int, time: int
    ) -> Frame:
        """A simple packet block has no time stamp: it gets that of the packet before it."""
        interface = self._interface(section, 0, offset)
        if end - offset < 16:
            self._damaged(offset, "a simple packet block without a length")
        (wire,) = struct.unpack_from(f"{order}I", self.data, offset + 8)
        start = offset + 12
        captured = min(wire, interface.snap_length or wire, end - 4 - start)
        index = len(self.interfaces) - len(section)
        return time, interface.link_type, start, start + captured, wire, index


def _time(interface: CaptureInterface, ticks: int) -> int:
    """`ticks` of the interface's clock as ns since the epoch."""
    unit = interface.ticks_per_second
    if unit == NANOSECONDS:
        time = ticks
    elif unit == 1_000_000:
        time = ticks * 1000
    else:
        time = ticks * NANOSECONDS // unit
    return time + interface.time_offset * NANOSECONDS
