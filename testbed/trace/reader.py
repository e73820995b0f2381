"""From a capture file to a Trace."""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import msgspec

from testbed.trace.connections import Connection, connection_of
from testbed.trace.grouping import Group, Tracks, join_halves, new_track, put_strays_back
from testbed.trace.headers import CutOff, Malformed, locate_tcp
from testbed.trace.pcap import CaptureFile, CaptureInterface
from testbed.trace.protocols import UNREAD
from testbed.trace.segments import Segment
from testbed.trace.source import Buffer
from testbed.trace.table import SegmentTable, table_of
from testbed.trace.text.transcript import Transcript
from testbed.wire.flags import FIN, RST, SYN
from testbed.wire.frame import ETHERNET, IPV4
from testbed.wire.ip import IS_FRAGMENT, TCP

# The common packet in one unpack: Ethernet without tags, IPv4 without options, TCP.
# EtherType; version and header length, total length, fragment field, protocol, both addresses
# and ports; sequence, acknowledgment, data offset, flags, window.
_COMMON = struct.Struct("!12xH BxHxxHxBxx12s IIBBH")
_TCP_HEADER = struct.Struct("!4xIIBBH")
_NEVER = 1 << 96  # ns; later than 64 bits of seconds, and an offset of as many, can tell
_USUAL_DISORDER = 1_000_000  # ns
_CONTROL = FIN | SYN | RST


class CaptureSource(msgspec.Struct, frozen=True):
    """What a capture file says about itself.

    lost: packets that, by the file's own counters, were not captured for want of room.
    transcript: what is to be known of a log that was given as text; None for a capture.
    """

    format: str
    interfaces: tuple[CaptureInterface, ...]
    lost: int = 0
    transcript: Transcript | None = None


@dataclass(frozen=True, eq=False)
class Trace:
    """A capture read back.

    path: the file, `-` for standard input.
    start, end: ns since the epoch of the earliest and the latest packet of any kind; None when
    empty.
    packets: all packets in the file.
    others: how many of them are not TCP, by what they are: "UDP", "later fragment".
    unread: how many may hold TCP in what this reader does not know, by what that is.
    malformed: how many have headers that contradict each other.
    cut: of how many the snap length has cut the headers.
    back_in_time: number of the first packet that is earlier than one before it by more than a
    millisecond; None mostly. Less than that is usual where several processors took packets in.
    truncated: the file stops in the middle of its last record.
    damage: where and how the file is damaged, and was read no further; empty for a sound one.
    copies_ignored: segments that were left out because they are copies of others.
    """

    path: Path
    capture: CaptureSource
    segments: tuple[Segment, ...]
    connections: tuple[Connection, ...]
    start: int | None
    end: int | None
    packets: int
    others: Mapping[str, int] = field(default_factory=dict)
    unread: Mapping[str, int] = field(default_factory=dict)
    malformed: int = 0
    cut: int = 0
    back_in_time: int | None = None
    truncated: bool = False
    damage: str = ""
    copies_ignored: int = 0

    @cached_property
    def table(self) -> SegmentTable:
        """All segments as columns, in the order of the capture."""
        rows = (
            (one, each.number, each.is_outward(one))
            for each in self.connections
            for one in each.segments
        )
        return table_of(sorted(rows, key=lambda row: row[0].number))

    @property
    def other(self) -> int:
        """Packets that are not TCP, or not known to be."""
        return sum(self.others.values()) + sum(self.unread.values())

    def __repr__(self) -> str:
        return (
            f"<Trace {self.path}: {len(self.segments)} segments in "
            f"{len(self.connections)} connections>"
        )


def read_trace(source: str | os.PathLike[str] | BinaryIO, *, ignore_copies: bool = False) -> Trace:
    """Read a pcap or pcapng file, also one compressed by gzip, zstd or lz4, or a stream of one.

    ignore_copies: leave out what was captured twice (`Direction.copies`).

    Raises TraceError for what is no capture file. A file that is damaged further on is read up
    to there, and `damage` says so. A packet that makes no sense is counted, never an error.
    """
    file = CaptureFile(source)
    reading = _Reading(file.data)
    reading.run(file)
    groups = put_strays_back(join_halves(reading.groups))
    connections = tuple(
        connection_of(number, group, ordered=reading.ordered)
        for number, group in enumerate(groups, 1)
    )
    trace = Trace(
        path=file.path,
        capture=CaptureSource(file.format, tuple(file.interfaces), file.lost, file.transcript),
        segments=tuple(reading.segments),
        connections=connections,
        start=reading.start,
        end=reading.end,
        packets=reading.packets,
        others=_sorted({k: n for k, n in reading.others.items() if not k.startswith(UNREAD)}),
        unread=_sorted(
            {
                name.removeprefix(UNREAD): count
                for name, count in reading.others.items()
                if name.startswith(UNREAD)
            }
        ),
        malformed=reading.malformed,
        cut=reading.cut,
        back_in_time=reading.back_in_time,
        truncated=file.truncated,
        damage=file.damage,
    )
    return _without_copies(trace) if ignore_copies else trace


def _sorted(counts: Mapping[str, int]) -> Mapping[str, int]:
    """The commonest first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _without_copies(trace: Trace) -> Trace:
    copies = {
        segment
        for connection in trace.connections
        for direction in connection.directions
        for segment in direction.copies
    }
    if not copies:
        return trace
    connections = tuple(
        replace(one, segments=tuple(s for s in one.segments if s not in copies))
        for one in trace.connections
    )
    segments = tuple(segment for segment in trace.segments if segment not in copies)
    return replace(trace, segments=segments, connections=connections, copies_ignored=len(copies))


class _Reading:
    """What accumulates while a file is read."""

    def __init__(self, data: Buffer) -> None:
        self.data = data
        self.segments: list[Segment] = []
        self.tracks: Tracks = {}
        self.groups: list[Group] = []
        self.start: int | None = None
        self.end: int | None = None
        self.packets = 0
        self.others: Counter[str] = Counter()
        self.malformed = 0
        self.cut = 0
        self.back_in_time: int | None = None
        self.ordered = True

    def run(self, file: CaptureFile) -> None:
        """The hot loop: about one microsecond for the common packet."""
        data = self.data
        unpack = _COMMON.unpack_from
        track_of = self.tracks.get
        keep = self.segments.append
        number = 0
        latest = _NEVER
        for time, link, start, end, wire, interface in file.frames():
            number += 1
            if time < latest:
                latest = self._go_back(number, time, latest)
            else:
                latest = time
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
                            data, start + 34, packet_end, interface,
                        )  # fmt: skip
                        keep(segment)
                        if flags & _CONTROL:
                            track.control(segment)
                        track.append(segment)
                        continue
            self._take_uncommon(number, time, link, start, end, wire, interface)
        self.packets = number
        if number:
            self.end = latest

    def _go_back(self, number: int, time: int, latest: int) -> int:
        """Take note of the first packet, or of one earlier than `latest`; returns the latest."""
        if number == 1:
            self.start = time
            return time
        self.ordered = False
        if self.back_in_time is None and latest - time > _USUAL_DISORDER:
            self.back_in_time = number
        assert self.start is not None
        self.start = min(self.start, time)
        return latest

    def _take_uncommon(
        self, number: int, time: int, link: int, start: int, end: int, wire: int, interface: int
    ) -> None:
        """Any other packet: tags, tunnels, IPv6, IP options, other link types, damaged ones."""
        data = self.data
        try:
            located = locate_tcp(data, link, start, end, wire)
        except Malformed:
            self.malformed += 1
            return
        except CutOff:
            self.cut += 1
            return
        if isinstance(located, str):
            self.others[located] += 1
            return
        key, network, header, packet_end, fragment, around = located
        seq, ack, offset, flags, window = _TCP_HEADER.unpack_from(data, header)
        track = self.tracks.get((key, around) if around else key) or new_track(
            key, self.tracks, self.groups, around
        )
        length = packet_end - header - (offset >> 2 & 0x3C)
        segment = Segment(
            number, time, track.flow, seq, ack, flags, window, length,
            data, header, min(packet_end, end), interface, fragment, network,
        )  # fmt: skip
        self.segments.append(segment)
        if flags & _CONTROL:
            track.control(segment)
        track.append(segment)
