"""TCP options (RFC 9293 section 3.1): walked through, parsed, named, and made.

Sources of the others: RFC 7323 (window scale, timestamps), RFC 2018 (SACK), RFC 7413 (Fast Open),
RFC 8684 (MPTCP), RFC 6994 (experiments).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import msgspec

from testbed.wire.buffer import Buffer

END: Final = 0
NOP: Final = 1
MSS: Final = 2
WINDOW_SCALE: Final = 3
SACK_PERMITTED: Final = 4
SACK: Final = 5
TIMESTAMPS: Final = 8
MPTCP: Final = 30
FAST_OPEN: Final = 34
MAX_WINDOW_SCALE: Final = 14  # RFC 7323 section 2.3
#: Two NOPs before a timestamps option: how nearly all segments of Linux begin theirs.
PLAIN_TIMESTAMPS: Final = bytes((NOP, NOP, TIMESTAMPS, 10))

LEAST_MSS: Final = 48  # Linux's TCP_MIN_SND_MSS; leaves room for data beside 40 bytes of options
#: The MSS of a host that names none, by the version of IP (RFC 9293 section 3.7.1).
ASSUMED_MSS: Final = {4: 536, 6: 1220}

_EXPERIMENTS: Final = frozenset({253, 254})  # an identifier of 16 bits tells them apart
_FAST_OPEN_EXPERIMENT: Final = b"\xf9\x89"  # RFC 7413 section 4.1.1

_u16 = struct.Struct("!H")
_u32_pair = struct.Struct("!II")

OptionName: TypeAlias = Literal[
    "mss", "window-scale", "sack", "timestamps", "tfo", "mptcp", "unknown"
]

_NAMES: Final[dict[int, OptionName]] = {
    MSS: "mss",
    WINDOW_SCALE: "window-scale",
    SACK_PERMITTED: "sack",
    SACK: "sack",
    TIMESTAMPS: "timestamps",
    MPTCP: "mptcp",
    FAST_OPEN: "tfo",
}


def walk(data: Buffer, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Kind, position and length (kind and length bytes included) of each option in `data[at:end]`.

    Without END and NOP. Ends at the first option whose length is impossible.
    """
    while at < end:
        kind = data[at]
        if kind == NOP:
            at += 1
            continue
        if kind == END or at + 2 > end:
            return
        size = data[at + 1]
        if size < 2 or at + size > end:
            return
        yield kind, at, size
        at += size


def option_name(data: Buffer, kind: int, at: int, size: int) -> OptionName:
    """What an option of `data`, given as `walk` gives it, is called."""
    if kind in _EXPERIMENTS and size >= 4 and data[at + 2 : at + 4] == _FAST_OPEN_EXPERIMENT:
        return "tfo"
    return _NAMES.get(kind, "unknown")


def mss_of(mtu: int, version: int) -> int:
    """What a packet of `mtu` bytes carries beside headers without options (RFC 6691)."""
    return mtu - (40 if version == 4 else 60)


def sack_blocks(data: Buffer, at: int, size: int) -> Iterator[tuple[int, int]]:
    """The blocks of a SACK option as left and right edge; what does not fill a block is left."""
    for block in range(at + 2, at + size - 7, 8):
        yield _u32_pair.unpack_from(data, block)


class Options(msgspec.Struct, frozen=True):
    """The options of one segment; None where an option is absent.

    sack: blocks as (left edge, right edge).
    timestamps: (TSval, TSecr).
    fast_open: the cookie, empty when one is requested.
    unknown: (kind, value) of every other option, and of known ones with an impossible length.
    malformed: the list does not fit its lengths; what came before is kept.
    """

    mss: int | None = None
    window_scale: int | None = None
    sack_permitted: bool = False
    sack: tuple[tuple[int, int], ...] = ()
    timestamps: tuple[int, int] | None = None
    fast_open: bytes | None = None
    unknown: tuple[tuple[int, bytes], ...] = ()
    malformed: bool = False


def parse_options(data: Buffer, at: int = 0, end: int | None = None) -> Options:
    """Parse the option bytes `data[at:end]` of a TCP header; never fails."""
    end = len(data) if end is None else end
    mss: int | None = None
    window_scale: int | None = None
    sack_permitted = False
    sack: tuple[tuple[int, int], ...] = ()
    timestamps: tuple[int, int] | None = None
    fast_open: bytes | None = None
    unknown: list[tuple[int, bytes]] = []
    for kind, start, size in walk(data, at, end):
        at = start + size
        if kind == TIMESTAMPS and size == 10:
            timestamps = _u32_pair.unpack_from(data, start + 2)
        elif kind == SACK and size % 8 == 2 and size > 2:
            sack = tuple(sack_blocks(data, start, size))
        elif kind == MSS and size == 4:
            (mss,) = _u16.unpack_from(data, start + 2)
        elif kind == WINDOW_SCALE and size == 3:
            window_scale = data[start + 2]
        elif kind == SACK_PERMITTED and size == 2:
            sack_permitted = True
        elif kind == FAST_OPEN:
            fast_open = bytes(data[start + 2 : at])
        else:
            unknown.append((kind, bytes(data[start + 2 : at])))
    while at < end and data[at] == NOP:
        at += 1
    malformed = at < end and data[at] != END
    return Options(
        mss, window_scale, sack_permitted, sack, timestamps, fast_open, tuple(unknown), malformed
    )


class HandshakeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a SYN or SYN/ACK that set up a connection; None where one is missing.

    sack: whether SACK is permitted. timestamps: TSval and TSecr. window_scale: at most 14.
    """

    mss: int | None = None
    window_scale: int | None = None
    sack: bool = False
    timestamps: tuple[int, int] | None = None

    @classmethod
    def of(cls, options: Options) -> HandshakeOptions:
        """Those among all options of a segment; a window scale above 14 counts as 14."""
        scale = options.window_scale
        return cls(
            mss=options.mss,
            window_scale=None if scale is None else min(scale, MAX_WINDOW_SCALE),
            sack=options.sack_permitted,
            timestamps=options.timestamps,
        )

    def encode(self) -> bytes:
        """Bytes for a TCP header, a multiple of four, in the order that Linux uses."""
        parts = []
        if self.mss is not None:
            parts.append(struct.pack("!BBH", MSS, 4, self.mss))
        if self.timestamps is not None:
            lead = (SACK_PERMITTED, 2) if self.sack else (NOP, NOP)
            parts.append(bytes((*lead, TIMESTAMPS, 10)) + _u32_pair.pack(*self.timestamps))
        elif self.sack:
            parts.append(bytes((NOP, NOP, SACK_PERMITTED, 2)))
        if self.window_scale is not None:
            parts.append(bytes((NOP, WINDOW_SCALE, 3, self.window_scale)))
        return b"".join(parts)
