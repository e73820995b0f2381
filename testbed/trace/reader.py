"""From a capture file to a Trace."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from testbed.errors import TraceError
from testbed.trace.analysis import SegmentClass
from testbed.trace.connections import Connection
from testbed.trace.contents import Contents, connection_columns, initiated
from testbed.trace.frames import CaptureInterface, Offsets
from testbed.trace.grouping import group_rows
from testbed.trace.pcap import CaptureFile, Progress
from testbed.trace.protocols import UNREAD
from testbed.trace.segments import Segment
from testbed.trace.selecting import select_connection
from testbed.trace.source import Buffer
from testbed.trace.summary import TraceSummary
from testbed.trace.table import SegmentTable
from testbed.trace.table.building import TableBuilder
from testbed.trace.table.decoding import Decoder
from testbed.trace.table.flows import Flows
from testbed.trace.text.transcript import Transcript

_USUAL_DISORDER = 1_000_000  # ns


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
    nodes: addresses by the name of their node, for `connection`.
    """

    path: Path
    capture: CaptureSource
    contents: Contents
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
    nodes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def table(self) -> SegmentTable:
        """All segments as columns, in the order of the capture."""
        return self.contents.table

    @property
    def segments(self) -> tuple[Segment, ...]:
        """All segments as objects, in the order of the capture."""
        return self.contents.segments

    @property
    def connections(self) -> tuple[Connection, ...]:
        """All connections, in the order of their first segments."""
        return self.contents.connections

    def connection(
        self, *, client: str | int | None = None, server: str | int | None = None
    ) -> Connection:
        """The one connection between these ends: client is the initiator, server the responder.

        Each is an address, a port, `address:port` or the name of a node (see `nodes`).
        Raises TraceError unless there is exactly one.
        """
        return select_connection(
            self.connections, self.nodes, client=client, server=server, source=str(self.path)
        )

    def numbered(self, number: int) -> Connection:
        """The connection with a number, from 1. Raises TraceError where there is none."""
        if not 1 <= number <= len(self.connections):
            raise TraceError(
                f"{self.path}: there is no connection {number}: it has {len(self.connections)}."
            )
        return self.connections[number - 1]

    @property
    def summary(self) -> TraceSummary:
        """The figures of all connections at once; much faster than asking each of them."""
        return self.contents.summary

    @property
    def classes(self) -> NDArray[np.uint8]:
        """The `SegmentClass` of each row of `table`, of all connections at once."""
        return self.summary.classes

    @property
    def other(self) -> int:
        """Packets that are not TCP, or not known to be."""
        return sum(self.others.values()) + sum(self.unread.values())

    def __repr__(self) -> str:
        return (
            f"<Trace {self.path}: {len(self.table)} segments in "
            f"{len(self.contents.initiated)} connections>"
        )


def read_trace(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    ignore_copies: bool = False,
    progress: Progress | None = None,
    nodes: Mapping[str, Sequence[str]] | None = None,
) -> Trace:
    """Read a pcap or pcapng file, also one compressed by gzip, zstd or lz4, or a stream of one.

    ignore_copies: leave out what was captured twice (`Direction.copies`). progress: is told now
    and then how many bytes are read, and how many there are.
    nodes: addresses by name of a node, such as `lab.addresses`; `Trace.connection` knows them then.

    Raises TraceError for what is no capture file. A file that is damaged further on is read up
    to there, and `damage` says so. A packet that makes no sense is counted, never an error.
    """
    file = CaptureFile(source)
    reading = _Reading(file.data)
    contents = reading.run(file, progress)
    decoder = reading.decoder
    trace = Trace(
        path=file.path,
        capture=CaptureSource(file.format, tuple(file.interfaces), file.lost, file.transcript),
        contents=contents,
        start=reading.start,
        end=reading.end,
        packets=reading.packets,
        others=_sorted({k: n for k, n in decoder.others.items() if not k.startswith(UNREAD)}),
        unread=_sorted(
            {
                name.removeprefix(UNREAD): count
                for name, count in decoder.others.items()
                if name.startswith(UNREAD)
            }
        ),
        malformed=decoder.malformed,
        cut=decoder.cut,
        back_in_time=reading.back_in_time,
        truncated=file.truncated,
        damage=file.damage,
    )
    if nodes is not None:
        trace = replace(trace, nodes=nodes)
    return _without_copies(trace) if ignore_copies else trace


def _sorted(counts: Mapping[str, int]) -> Mapping[str, int]:
    """The commonest first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _without_copies(trace: Trace) -> Trace:
    kinds = [SegmentClass.COPY, SegmentClass.DUPLICATE]
    copies = trace.table.number[np.isin(trace.classes, kinds)]
    if not len(copies):
        return trace
    contents = trace.contents.without(copies)
    return replace(trace, contents=contents, copies_ignored=len(copies))


class _Reading:
    """What accumulates while a file is read."""

    def __init__(self, data: Buffer) -> None:
        self.flows = Flows()
        self.decoder = Decoder(data, self.flows)
        self.builder = TableBuilder()
        self.start: int | None = None
        self.end: int | None = None
        self.packets = 0
        self.back_in_time: int | None = None
        self.ordered = True

    def run(self, file: CaptureFile, progress: Progress | None) -> Contents:
        """Read all frames."""
        for frames in file.batches(progress):
            self._note_times(frames.time)
            self.builder.add(self.decoder.decode(frames, self.packets + 1))
            self.packets += len(frames)
        columns = {name: self.builder.column(name) for name in ("seq", "ack", "flags", "length")}
        flow = self.builder.flows()
        groups = group_rows(flow, self.flows, columns)
        opened = [initiated(group, self.flows) for group in groups]
        table = self.builder.table(*connection_columns(groups, opened, flow))
        return Contents(table, opened, self.flows, file.data, self.ordered)

    def _note_times(self, time: Offsets) -> None:
        """Take note of the earliest and latest time, and of the first that goes back."""
        latest = np.maximum.accumulate(time if self.end is None else np.append(self.end, time))
        before = latest[:-1] if self.end is not None else np.append(time[0], latest[:-1])
        back = np.flatnonzero(time < before)
        if len(back):
            self.ordered = False
        if self.back_in_time is None:
            # In unsigned numbers, which hold the difference of any two signed ones.
            steps = before[back].view(np.uint64) - time[back].view(np.uint64)
            far = back[steps > _USUAL_DISORDER]
            if len(far):
                self.back_in_time = self.packets + int(far[0]) + 1
        first = int(time.min())
        self.start = first if self.start is None else min(self.start, first)
        self.end = int(latest[-1])
