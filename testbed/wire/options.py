"""TCP options (RFC 9293 3.1, RFC 7323, RFC 2018, RFC 7413)."""

from __future__ import annotations

import struct

import msgspec

END, NO_OPERATION, MSS, WINDOW_SCALE, SACK_PERMITTED, SACK, TIMESTAMPS, FAST_OPEN = (
    0, 1, 2, 3, 4, 5, 8, 34
)  # fmt: skip


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


def parse_options(raw: bytes) -> Options:
    """Parse the option bytes of a TCP header; never fails."""
    mss: int | None = None
    window_scale: int | None = None
    sack_permitted = False
    sack: tuple[tuple[int, int], ...] = ()
    timestamps: tuple[int, int] | None = None
    fast_open: bytes | None = None
    unknown: list[tuple[int, bytes]] = []
    malformed = False
    at = 0
    while at < len(raw) and raw[at] != END:
        kind = raw[at]
        if kind == NO_OPERATION:
            at += 1
            continue
        length = raw[at + 1] if at + 1 < len(raw) else 0
        if length < 2 or at + length > len(raw):
            malformed = True
            break
        value = raw[at + 2 : at + length]
        at += length
        size = len(value)
        if kind == MSS and size == 2:
            mss = int.from_bytes(value, "big")
        elif kind == WINDOW_SCALE and size == 1:
            window_scale = value[0]
        elif kind == SACK_PERMITTED and size == 0:
            sack_permitted = True
        elif kind == SACK and size % 8 == 0 and size:
            sack = tuple(struct.iter_unpack("!II", value))
        elif kind == TIMESTAMPS and size == 8:
            timestamps = struct.unpack("!II", value)
        elif kind == FAST_OPEN:
            fast_open = value
        else:
            unknown.append((kind, value))
    return Options(
        mss, window_scale, sack_permitted, sack, timestamps, fast_open, tuple(unknown), malformed
    )
