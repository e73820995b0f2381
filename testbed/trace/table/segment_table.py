"""The segments of a capture as columns: one numpy array for each field, a row for each segment."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntFlag
from functools import cached_property
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from testbed.trace.table.export import arrow_table, library
from testbed.wire.flags import FIN

Column: TypeAlias = NDArray[Any]
Integers: TypeAlias = NDArray[np.int64]
NO_WINDOW_SCALE: Final = 255
NO_IDENTIFICATION: Final = -1


class OptionBit(IntFlag):
    """The TCP options that a segment has, as bits; what is not among them is `UNKNOWN`.

    MALFORMED: the list does not fit its lengths; what came before is kept.
    """

    MSS = 1
    WINDOW_SCALE = 2
    SACK_PERMITTED = 4
    SACK = 8
    TIMESTAMPS = 16
    FAST_OPEN = 32
    UNKNOWN = 64
    MALFORMED = 128


@dataclass(frozen=True, eq=False)
class SegmentTable:
    """Segments as columns of equal length, in the order of the capture.

    number: of the frame in the file, from 1. time: ns since the epoch.
    connection: `Connection.number`. outward: sent by the initiator.
    seq, ack, flags, window: as in the header; the window is not scaled.
    length: bytes of payload on the wire; captured: how many of them are in the file.
    options: bits of `OptionBit`. Of an option that is not there the values are 0:
    mss; window_scale (`NO_WINDOW_SCALE`); ts_value, ts_echo: the time stamps of RFC 7323;
    sack_first, sack_count: the SACK blocks, rows of `sack_edges`.
    ip_id: the identification of IPv4; `NO_IDENTIFICATION` for IPv6.
    hops: time to live, or hop limit. ecn: the two bits of RFC 3168 in the IP header.
    interface: an index into the interfaces of the file.
    fragment: the first fragment of a larger IP packet; `length` counts this fragment only.
    position: of the TCP header in the (decompressed) file, in bytes; header_length: its length;
    header_cut: how many bytes of it the snap length cut.
    ip_distance: bytes from the start of the IP header before it to the TCP header.
    sack_edges: left and right edge of every SACK block, of shape (blocks, 2); shared by all parts
    of a table.
    """

    number: NDArray[np.uint32]
    time: NDArray[np.int64]
    connection: NDArray[np.uint32]
    outward: NDArray[np.bool_]
    seq: NDArray[np.uint32]
    ack: NDArray[np.uint32]
    flags: NDArray[np.uint8]
    window: NDArray[np.uint16]
    length: NDArray[np.uint32]
    captured: NDArray[np.uint32]
    options: NDArray[np.uint16]
    mss: NDArray[np.uint16]
    window_scale: NDArray[np.uint8]
    ts_value: NDArray[np.uint32]
    ts_echo: NDArray[np.uint32]
    sack_first: NDArray[np.uint32]
    sack_count: NDArray[np.uint8]
    ip_id: NDArray[np.int32]
    hops: NDArray[np.uint8]
    ecn: NDArray[np.uint8]
    interface: NDArray[np.uint32]
    fragment: NDArray[np.bool_]
    position: NDArray[np.int64]
    header_length: NDArray[np.uint8]
    header_cut: NDArray[np.uint8]
    ip_distance: NDArray[np.uint16]
    sack_edges: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.number)

    def take(self, rows: Column | slice) -> SegmentTable:
        """Some rows: by their indices, a mask, or a slice (which copies nothing)."""
        return SegmentTable(
            **{name: getattr(self, name)[rows] for name in COLUMNS}, sack_edges=self.sack_edges
        )

    def of(self, connection: int) -> SegmentTable:
        """The rows of one connection, by its number."""
        return self.take(self.rows_of(connection))

    def rows_of(self, connection: int) -> Integers:
        """The indices of the rows of one connection, by its number."""
        rows, starts = self.by_connection
        if not 0 <= connection < len(starts) - 1:
            return rows[:0]
        return rows[starts[connection] : starts[connection + 1]]

    @cached_property
    def span(self) -> Integers:
        """Lengths in sequence space: payload, and one each for SYN and FIN (RFC 9293, 3.4)."""
        control = (self.flags & FIN) + (self.flags >> 1 & FIN)
        return self.length.astype(np.int64) + control

    @cached_property
    def sack_rows(self) -> Integers:
        """The indices of the rows that have SACK blocks."""
        return np.flatnonzero(self.sack_count)

    def sack_of(self, row: int) -> NDArray[np.uint32]:
        """Left and right edges of the SACK blocks of one row, of shape (blocks, 2)."""
        first = int(self.sack_first[row])
        return self.sack_edges[first : first + int(self.sack_count[row])]

    def to_arrow(self) -> Any:
        """A `pyarrow.Table` of all columns, with null for what a segment does not have.

        SACK blocks are one column, `sack`. Raises TraceError where pyarrow is not installed.
        """
        missing = {
            "mss": OptionBit.MSS,
            "window_scale": OptionBit.WINDOW_SCALE,
            "ts_value": OptionBit.TIMESTAMPS,
            "ts_echo": OptionBit.TIMESTAMPS,
        }
        masks = {name: self.options & np.uint16(bit) == 0 for name, bit in missing.items()}
        masks["ip_id"] = self.ip_id == NO_IDENTIFICATION
        columns = {name: getattr(self, name) for name in COLUMNS}
        return arrow_table(columns, masks, self.sack_edges)

    def to_pandas(self) -> Any:
        """The same as a `pandas.DataFrame`; needs pandas, too."""
        library("pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """The same as a `polars.DataFrame`; needs polars, too."""
        return library("polars").from_arrow(self.to_arrow())

    @cached_property
    def by_connection(self) -> tuple[Integers, Integers]:
        """All rows sorted by connection, and where each connection starts among them."""
        return sorted_by(self.connection, int(self.connection.max(initial=0)) + 1)


COLUMNS: Final = tuple(
    field.name for field in fields(SegmentTable) if field.name not in ("sack_edges",)
)
"""The names of the columns, in order."""

DTYPES: Final[dict[str, str]] = {
    "number": "u4", "time": "i8", "connection": "u4", "outward": "?", "seq": "u4", "ack": "u4",
    "flags": "u1", "window": "u2", "length": "u4", "captured": "u4", "options": "u2", "mss": "u2",
    "window_scale": "u1", "ts_value": "u4", "ts_echo": "u4", "sack_first": "u4", "sack_count": "u1",
    "ip_id": "i4", "hops": "u1", "ecn": "u1", "interface": "u4", "fragment": "?", "position": "i8",
    "header_length": "u1", "header_cut": "u1", "ip_distance": "u2",
}  # fmt: skip


def unwrapped(numbers: Column, origin: int) -> Integers:
    """32-bit sequence numbers as distances from `origin` that run past 2^32.

    Each is taken as nearest to the one before it, the first as nearest to the origin, as
    `ranges.Unwrapper` does one at a time.
    """
    steps = np.diff(numbers.astype(np.uint32), prepend=np.uint32(origin & 0xFFFF_FFFF))
    return np.cumsum(steps.view(np.int32), dtype=np.int64)


def sorted_by(numbers: Column, count: int) -> tuple[Integers, Integers]:
    """Rows sorted by a number below `count`, in order, and where each number starts among them.

    By 16 bits at a time, which numpy sorts by radix, several times faster than all at once.
    """
    rows = np.argsort(numbers.astype(np.uint16), kind="stable")
    if count > 1 << 16:
        rows = rows[np.argsort((numbers[rows] >> 16).astype(np.uint16), kind="stable")]
    return rows, np.concatenate(([0], np.cumsum(np.bincount(numbers, minlength=count))))
