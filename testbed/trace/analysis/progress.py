"""How far both sides of connections had come at each segment, for many segments at once.

Rows are the segments of one or more connections, each connection's together and in the order of
the capture. Positions are sequence numbers relative to the initial one of their direction, and run
past 2^32. An array with two rows is by side: 0 the initiator, 1 the responder.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from testbed.trace.table import NO_WINDOW_SCALE, OptionBit, SegmentTable
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.options import MAX_WINDOW_SCALE

Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]

NOTHING: Final = -(1 << 41)
"""In place of a position: there was none yet."""
STRIDE: Final = 1 << 42
"""Keeps the positions of one connection apart from those of the next."""
MOST_CONNECTIONS: Final = 1 << 20
UNKNOWN_SCALE: Final = -1
NEVER: Final = 1 << 62
"""In place of a row: there is none."""


class SequenceProgress:
    """The running state of connections; see the module.

    starts: where each connection begins. group: the connection of each row, counted from 0.
    side: 0 or 1 of each row. key: both in one, twice the group and the side.
    isn, isn_seen, scale: by connection and side, shape (connections, 2);
    where the SYN is missing, isn is inferred as one before the first sequence number or
    acknowledgment seen, and scale is `UNKNOWN_SCALE` unless both SYNs are there.
    position, end: of the segment; acknowledged: its ACK; `NOTHING` without one.
    ignored: rows that are as if they were not there: copies of others.
    strays: those, RSTs, and SYNs with another sequence number, which say nothing of what was sent.
    window: as offered, in bytes; -1 where not known.
    """

    def __init__(self, table: SegmentTable, ignored: Mask | None = None) -> None:
        self.table = table
        self.ignored: Mask = np.zeros(len(table), np.bool_) if ignored is None else ignored
        self.flags = table.flags
        self.starts, self.group = grouped(table)
        self._is_first: Mask = table.outward
        self.side: NDArray[np.intp] = (~table.outward).astype(np.intp)
        self.key: Positions = self.group * 2 + self.side
        self._offsets = self.group * STRIDE
        self.has_ack: Mask = ((self.flags & (ACK | RST)) == ACK) & ~self.ignored
        self.resets: Mask = (self.flags & RST) != 0
        self.spans: Positions = table.span
        self._ends_are()
        self._place()
        self._windows_are()

    # -- what the SYNs tell --------------------------------------------------------------------

    def _ends_are(self) -> None:
        """Initial sequence numbers, and window scales."""
        sides = len(self.starts) * 2
        table, flags, key = self.table, self.flags, self.key
        own = np.flatnonzero(~self.resets)
        acks = np.flatnonzero(flags & ACK)
        first_own = firsts(key[own], own, sides)
        first_ack = firsts(key[acks] ^ 1, acks, sides)
        syns = np.flatnonzero(flags & SYN)
        first_syn = firsts(key[syns], syns, sides)
        by_ack = first_ack < first_own
        row = np.minimum(np.where(by_ack, first_ack, first_own), len(table) - 1)
        inferred = np.where(by_ack, table.ack[row], table.seq[row]).astype(np.int64) - 1
        nobody = (first_own == NEVER) & (first_ack == NEVER)
        seen: Mask = first_syn < NEVER
        syn_seq = table.seq[np.minimum(first_syn, len(table) - 1)].astype(np.int64)
        isn = np.where(seen, syn_seq, np.where(nobody, 0, inferred & 0xFFFF_FFFF))
        self.isn: Positions = isn.reshape(-1, 2)
        self.isn_seen: Mask = seen.reshape(-1, 2)
        offered = np.full(sides, -2, np.int64)  # no SYN
        scales = table.window_scale[syns].astype(np.int64)
        offered[key[syns]] = np.where(scales == NO_WINDOW_SCALE, -1, scales)
        pairs = offered.reshape(-1, 2)
        both, none = np.all(pairs >= 0, axis=1), np.any(pairs == -2, axis=1)
        agreed = np.where(np.expand_dims(both, 1), np.minimum(pairs, MAX_WINDOW_SCALE), 0)
        self.scale: Positions = np.where(np.expand_dims(none, 1), UNKNOWN_SCALE, agreed)
        stray = ((flags & SYN) != 0) & (table.seq != self.isn[self.group, self.side])
        self.stray_syns: Mask = stray & self.isn_seen[self.group, self.side]

    # -- where segments lie --------------------------------------------------------------------

    def _place(self) -> None:
        table = self.table
        order = self._side_by_side()
        strays = self.resets | self.stray_syns | self.ignored
        kept = order if not strays.any() else order[~strays[order]]
        own = self.isn[self.group, self.side]
        self.position: Positions = np.zeros(len(table), np.int64)
        self.position[kept] = self._unwrapped(kept, table.seq, own)
        self.end: Positions = self.position + self.spans
        self.acknowledged: Positions = np.full(len(table), NOTHING, np.int64)
        acks = order[self.has_ack[order]]
        peer = self.isn[self.group, 1 - self.side]
        self.acknowledged[acks] = self._unwrapped(acks, table.ack, peer)
        self.strays: Mask = strays
        if strays.any():
            rows = np.flatnonzero(strays)
            base = np.maximum(self.before(self.sent)[rows], 0)
            apart = table.seq[rows].astype(np.int64) - own[rows] - base
            self.position[rows] = base + _signed(apart)
            self.end[rows] = self.position[rows] + self.spans[rows]

    def _side_by_side(self) -> NDArray[np.intp]:
        """The rows with those of each side of a connection together, as they are otherwise."""
        outward = self.side == 0
        so_far = np.cumsum(outward)
        before = np.where(self.starts > 0, so_far[self.starts - 1], 0)
        of_group = np.add.reduceat(outward.astype(np.int64), self.starts)
        index = np.arange(len(outward))
        start = self.starts[self.group]
        rank = so_far - before[self.group]  # of outward rows, this one included
        target = np.where(
            outward, start + rank - 1, start + of_group[self.group] + (index - start - rank)
        )
        order = np.empty(len(outward), np.intp)
        order[target] = index
        return order

    def _unwrapped(self, rows: NDArray[np.intp], numbers: Any, origins: Positions) -> Positions:
        """Distances of 32-bit numbers from their origins, each nearest to the one before it."""
        if not len(rows):
            return np.zeros(0, np.int64)
        given = numbers[rows].astype(np.uint32)
        key = self.key[rows]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        steps = np.diff(given, prepend=given[:1]).view(np.int32).astype(np.int64)
        steps[first] = 0
        total = np.cumsum(steps)
        begin = _signed(given[first].astype(np.int64) - origins[rows[first]])
        sizes = np.diff(np.append(first, len(rows)))
        found: Positions = total + np.repeat(begin - total[first], sizes)
        return found

    # -- running state -------------------------------------------------------------------------

    def _windows_are(self) -> None:
        scale = self.scale[self.group, self.side]
        raw = self.table.window.astype(np.int64)
        shift = np.where((self.flags & SYN) != 0, 0, np.maximum(scale, 0))
        self.window: Positions = np.where(self.has_ack & (scale >= 0), raw << shift, -1)

    def running(self, values: Positions, counted: Mask) -> tuple[Positions, Positions]:
        """The largest value so far of each side, the row itself included; `NOTHING` before one."""
        found = []
        for side in (0, 1):
            wanted = counted & (self._is_first if side == 0 else ~self._is_first)
            marked = np.where(wanted, values, NOTHING) + self._offsets
            found.append(np.maximum.accumulate(marked) - self._offsets)
        return found[0], found[1]

    def last_row(self, counted: Mask) -> tuple[Positions, Positions]:
        """The latest row of each side for which `counted` holds, itself included; -1: none."""
        index = np.arange(len(counted))
        start = self.starts[self.group]
        found = []
        for side in (0, 1):
            own = counted & (self._is_first if side == 0 else ~self._is_first)
            last = np.maximum.accumulate(np.where(own, index, -1))
            found.append(np.where(last < start, -1, last))
        return found[0], found[1]

    def before(self, both: tuple[Positions, Positions], nothing: int = NOTHING) -> Positions:
        """Of the row's own side, the row itself not included."""
        value = np.empty_like(both[0])
        value[1:] = np.where(self._is_first[1:], both[0][:-1], both[1][:-1])
        value[self.starts] = nothing
        return value

    def of_peer(self, both: tuple[Positions, Positions]) -> Positions:
        """Of the other side, up to this row."""
        return np.where(self._is_first, both[1], both[0])

    @cached_property
    def acked(self) -> tuple[Positions, Positions]:
        """The highest acknowledgment that each side has sent."""
        return self.running(self.acknowledged, self.has_ack)

    @cached_property
    def edge(self) -> tuple[Positions, Positions]:
        """The right edge of the window that each side has offered."""
        return self.running(self.acknowledged + self.window, self.window >= 0)

    @cached_property
    def last_ack(self) -> tuple[Positions, Positions]:
        """The row with the latest ACK of each side."""
        return self.last_row(self.has_ack)

    @cached_property
    def _any_closed(self) -> bool:
        return bool((self.has_ack & (self.table.window == 0)).any())

    @cached_property
    def peer_closed(self) -> Mask:
        """Whether the other side offers no window; known without its scale."""
        if not self._any_closed:
            return np.zeros(len(self.side), np.bool_)
        last = self.of_peer(self.last_ack)
        closed: Mask = (last >= 0) & (self.table.window[last] == 0)
        return closed

    @cached_property
    def probes(self) -> Mask:
        """One byte at the edge of a closed window. It counts as sent once it was acknowledged."""
        if not self._any_closed:
            return np.zeros(len(self.side), np.bool_)
        data = (self.table.length == 1) & ((self.flags & (SYN | FIN)) == 0) & ~self.strays
        found: Mask = data & self.peer_closed & (self.position == self.of_peer(self.acked))
        return found

    @cached_property
    def sent(self) -> tuple[Positions, Positions]:
        """The end of what each side has sent, as seen here; without probes of closed windows."""
        return self.running(self.end, ~(self.strays | self.probes))

    @cached_property
    def probed(self) -> tuple[Positions, Positions]:
        """The end of what each side has sent as probes of a closed window."""
        if not self._any_closed:
            nothing = np.full(len(self.side), NOTHING, np.int64)
            return nothing, nothing
        return self.running(self.end, self.probes)

    @cached_property
    def sent_before(self) -> Positions:
        """The end of what the row's side has sent before, and of probes that were accepted."""
        probed = self.before(self.probed)
        accepted = np.where(probed <= self.of_peer(self.acked), probed, NOTHING)
        return np.maximum(self.before(self.sent), accepted)

    @cached_property
    def peer_sent(self) -> Positions:
        """The end of what the other side has sent up to this row, probes included."""
        return np.maximum(self.of_peer(self.sent), self.of_peer(self.probed))

    @cached_property
    def sacked(self) -> tuple[Positions, Positions]:
        """The highest right edge of a SACK block that each side has sent."""
        table = self.table
        rows = table.sack_rows
        highest = np.full(len(table), NOTHING, np.int64)
        rows = rows[self.has_ack[rows] & ((table.options[rows] & OptionBit.SACK) != 0)]
        if len(rows):
            first, number = table.sack_first[rows].astype(np.int64), table.sack_count[rows]
            block = np.arange(number.max())
            there = block < number[:, None]
            index = np.where(there, first[:, None] + block, first[:, None])
            right = table.sack_edges[index, 1].astype(np.int64)
            apart = _signed(right - table.ack[rows].astype(np.int64)[:, None])
            highest[rows] = self.acknowledged[rows] + np.where(there, apart, NOTHING).max(axis=1)
        return self.running(highest, highest > NOTHING)


def grouped(table: SegmentTable) -> tuple[Positions, Positions]:
    """Where each connection of a table begins, and of each row its connection, counted from 0.

    The rows of each connection are together.
    """
    connection, count = table.connection, len(table)
    changes = np.flatnonzero(np.diff(connection, prepend=connection[:1]))
    starts = np.concatenate((np.zeros(min(count, 1), np.int64), changes))
    sizes = np.diff(np.append(starts, count))
    return starts, np.repeat(np.arange(len(starts)), sizes)


def firsts(keys: Positions, rows: Any, count: int) -> Positions:
    """The first row of each key, `NEVER` where there is none; keys are below `count`."""
    found = np.full(count, NEVER, np.int64)
    found[keys[::-1]] = rows[::-1]
    return found


def _signed(distance: Positions) -> Positions:
    """Distances modulo 2^32, as the nearest signed ones."""
    half = np.int64(1 << 31)
    return ((distance + half) & np.int64(0xFFFF_FFFF)) - half
