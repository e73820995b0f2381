"""The TCP options of many segments at once; what they mean is as in `testbed.wire.options`."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from testbed.trace.table.segment_table import NO_WINDOW_SCALE, Column, Integers, OptionBit
from testbed.wire.options import (
    END,
    FAST_OPEN,
    MSS,
    NOP,
    PLAIN_TIMESTAMPS,
    SACK,
    SACK_PERMITTED,
    TIMESTAMPS,
    WINDOW_SCALE,
)

ROOM: Final = 40  # bytes of options that a TCP header can have
_PLAIN_SIZE: Final = 12
_WHOLE: Final = {MSS: 4, WINDOW_SCALE: 3, SACK_PERMITTED: 2, TIMESTAMPS: 10}
_BITS: Final = {
    MSS: OptionBit.MSS, WINDOW_SCALE: OptionBit.WINDOW_SCALE, SACK: OptionBit.SACK,
    SACK_PERMITTED: OptionBit.SACK_PERMITTED, TIMESTAMPS: OptionBit.TIMESTAMPS,
    FAST_OPEN: OptionBit.FAST_OPEN,
}  # fmt: skip


class OptionColumns:
    """The columns of options, of the option bytes of many segments.

    raw: `ROOM` bytes for each segment, of shape (segments, ROOM). room: how many of them are
    options. The other attributes are columns of a `SegmentTable`, but for `sack_first`.
    """

    def __init__(self, raw: NDArray[np.uint8], room: Integers) -> None:
        count = len(raw)
        self.options = np.zeros(count, np.uint16)
        self.mss = np.zeros(count, np.uint16)
        self.window_scale = np.full(count, NO_WINDOW_SCALE, np.uint8)
        self.ts_value = np.zeros(count, np.uint32)
        self.ts_echo = np.zeros(count, np.uint32)
        self.sack_count = np.zeros(count, np.uint8)
        self.sack_edges = np.zeros((0, 2), np.uint32)
        self._raw = raw
        self._room = room
        self._sack_at = np.zeros(count, np.int64)
        others = room > 0
        plain = room == _PLAIN_SIZE
        if plain.any():
            plain &= _words(raw, 0) == int.from_bytes(PLAIN_TIMESTAMPS, "big")
            others &= ~plain
            self.ts_value = np.where(plain, _words(raw, 4), np.uint32(0)).astype(np.uint32)
            self.ts_echo = np.where(plain, _words(raw, 8), np.uint32(0)).astype(np.uint32)
            self.options[plain] = OptionBit.TIMESTAMPS
        self._walk(np.flatnonzero(others))
        self._read_sack(np.flatnonzero(self.sack_count))

    def _walk(self, rows: Integers) -> None:
        """Step over the options of all rows side by side, until each is at its end."""
        at = np.zeros(len(rows), np.int64)
        while len(rows):
            kind = self._raw[rows, at]
            room = self._room[rows]
            size = self._raw[rows, np.minimum(at + 1, ROOM - 1)].astype(np.int64)
            fits = (at + 2 <= room) & (size >= 2) & (at + size <= room)
            padding = kind == NOP
            size[padding] = 1
            going = padding | (fits & (kind != END))
            self.options[rows[~going & (kind != END)]] |= np.uint16(OptionBit.MALFORMED)
            found = fits & ~padding & (kind != END)
            self._note(rows[found], kind[found], at[found], size[found])
            at += size
            going &= at < room
            rows, at = rows[going], at[going]

    def _note(self, rows: Integers, kind: Column, at: Integers, size: Integers) -> None:
        """Take what one option of each row says; of an option that is repeated, the last."""
        bits = np.full(len(rows), OptionBit.UNKNOWN, np.uint16)
        for one, bit in _BITS.items():
            known = kind == one
            if one in _WHOLE:
                known &= size == _WHOLE[one]
            elif one == SACK:
                known &= (size % 8 == 2) & (size > 2)
            if not known.any():
                continue
            bits[known] = bit
            mine, start = rows[known], at[known] + 2
            if one == MSS:
                self.mss[mine] = self._number(mine, start, 2)
            elif one == WINDOW_SCALE:
                self.window_scale[mine] = self._raw[mine, start]
            elif one == TIMESTAMPS:
                self.ts_value[mine] = self._number(mine, start, 4)
                self.ts_echo[mine] = self._number(mine, start + 4, 4)
            elif one == SACK:
                self.sack_count[mine] = size[known] // 8
                self._sack_at[mine] = start
        self.options[rows] |= bits

    def _read_sack(self, rows: Integers) -> None:
        counts = self.sack_count[rows].astype(np.int64)
        block = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        at = np.repeat(self._sack_at[rows], counts) + 8 * block
        rows = np.repeat(rows, counts)
        edges = [self._number(rows, at + more, 4) for more in (0, 4)]
        self.sack_edges = np.stack(edges, axis=1)

    def _number(self, rows: Integers, at: Integers, size: int) -> NDArray[Any]:
        """The number of `size` bytes at a place of each row."""
        found = self._raw[rows[:, None], at[:, None] + np.arange(size)].view(f">u{size}")
        number: NDArray[Any] = found[:, 0].astype(f"u{size}")
        return number


def _words(raw: NDArray[np.uint8], at: int) -> NDArray[np.uint32]:
    """The 32-bit numbers at one place of all rows."""
    words: NDArray[np.uint32] = raw[:, at : at + 4].view(">u4")[:, 0]
    return words
