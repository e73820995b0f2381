"""From a capture file to a Trace."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import msgspec

from testbed.trace.connections import Connection, connection_of
from testbed.trace.grouping import Group, Track, new_track
from testbed.trace.headers import Malformed, locate_tcp
from testbed.trace.pcap import Buffer, CaptureFile, Interface
from testbed.trace.segments import Segment
from testbed.wire.flags import FIN, RST, SYN
from testbed.wire.frame import ETHERNET, IPV4
from testbed.wire.ip import IS_FRAGMENT, TCP

# The common packet in one unpack: Ethernet without tags, IPv4 without options, TCP.
# EtherType; version and header length, total length, fragment field, protocol, both addresses
# and ports; sequence, acknowledgment, data offset, flags, window.
_COMMON = struct.Struct("!12xH BxHxxHxBxx12s IIBBH")
_TCP_HEADER = struct.Struct("!4xIIBBH")
_CONTROL = FIN | SYN | RST


class Capture(msgspec.Struct, frozen=True):
    """What a capture file says about itself."""

    format: str
    interfaces: tuple[Interface, ...]


@dataclass(frozen=True, eq=False)
class Trace:
    """A capture read back.

    start, end: ns since the epoch of the first and the last packet of any kind; None when empty.
    packets: all packets in the file. Of those, `other` are not TCP (later fragments included)
    and `malformed` have headers that contradict each other or are cut off by the snap length.
    truncated: the file stops in the middle of its last record.
    """

    path: Path
    capture: Capture
    segments: tuple[Segment, ...]
    connections: tuple[Connection, ...]
    start: int | None
    end: int | None
    packets: int
    other: int
    malformed: int
    truncated: bool

    def __repr__(self) -> str:
        return (
            f"<Trace {self.path}: {len(self.segments)} segments in "
            f"{len(self.connections)} connections>"
        )


def read_trace(path: str | Path) -> Trace:
    """Read a pcap or pcapng file.

    Raises TraceError, naming file and byte offset, where its structure is damaged. A packet
    that makes no sense is counted as malformed, never an error.
    """
    file = CaptureFile(Path(path))
    reading = _Reading(file.data)
    reading.run(file)
    return Trace(
        path=file.path,
        capture=Capture(file.format, tuple(file.interfaces)),
        segments=tuple(reading.segments),
        connections=tuple(
            connection_of(number, group) for number, group in enumerate(reading.groups, 1)
        ),
        start=reading.start,
        end=reading.end,
        packets=reading.packets,
        other=reading.other,
        malformed=reading.malformed,
        truncated=file.truncated,
    )


class _Reading:
    """What accumulates while a file is read."""

    def __init__(self, data: Buffer) -> None:
        self.data = data
        self.segments: list[Segment] = []
        self.tracks: dict[bytes, Track] = {}
        self.groups: list[Group] = []
        self.start: int | None = None
        self.end: int | None = None
        self.packets = 0
        self.other = 0
        self.malformed = 0

    def run(self, file: CaptureFile) -> None:
        """The hot loop: about one microsecond for the common packet."""
        data = self.data
        unpack = _COMMON.unpack_from
        track_of = self.tracks.get
        keep = self.segments.append
        number = 0
        time = 0
        for time, link, start, end, wire in file.frames():
            if number == 0:
                self.start = time
            number += 1
            if link == ETHERNET and end - start >= 54:
                (
                    ethertype, version, total, fragment, protocol, key,
                    seq, ack, offset, flags, window,
                ) = unpack(data, start)  # fmt: skip
                if (
                    ethertype == IPV4
                    and version == 0x45
                    and protocol == TCP
                    and not fragment & IS_FRAGMENT
                ):
                    length = total - 20 - (offset >> 2 & 0x3C)
                    packet_end = start + 14 + total
                    if length >= 0 and offset >= 0x50 and packet_end <= end:
                        track = track_of(key) or new_track(key, self.tracks, self.groups)
                        segment = Segment(
                            number, time, track.flow, seq, ack, flags, window, length,
                            data, start + 34, packet_end,
                        )  # fmt: skip
                        keep(segment)
                        if flags & _CONTROL:
                            track.control(segment)
                        track.append(segment)
                        continue
            self._take_uncommon(number, time, link, start, end, wire)
        self.packets = number
        if number:
            self.end = time

    def _take_uncommon(
        self, number: int, time: int, link: int, start: int, end: int, wire: int
    ) -> None:
        """Any other packet: tags, IPv6, IP options, other link types, cut or damaged ones."""
        data = self.data
        try:
            located = locate_tcp(data, link, start, end, wire)
        except Malformed:
            self.malformed += 1
            return
        if located is None:
            self.other += 1
            return
        key, header, packet_end, fragment = located
        seq, ack, offset, flags, window = _TCP_HEADER.unpack_from(data, header)
        track = self.tracks.get(key) or new_track(key, self.tracks, self.groups)
        length = packet_end - header - (offset >> 2 & 0x3C)
        segment = Segment(
            number, time, track.flow, seq, ack, flags, window, length,
            data, header, min(packet_end, end), fragment,
        )  # fmt: skip
        self.segments.append(segment)
        if flags & _CONTROL:
            track.control(segment)
        track.append(segment)
