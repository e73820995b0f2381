"""One packet of a text log, as far as the text tells."""

from __future__ import annotations

import msgspec


class Name(msgspec.Struct, frozen=True):
    """A host as the log names it, and its port: a number, a service, or nothing."""

    host: str
    port: str = ""


class Piece(msgspec.Struct, frozen=True):
    """Bytes of IP payload from `offset` on; more: others follow."""

    identification: int
    size: int
    offset: int
    more: bool


class TextLine(msgspec.Struct, frozen=True, kw_only=True):
    """One packet; None where the text does not say.

    time: ns since the epoch, or since midnight of a day that is not told.
    flags: bits of the TCP header; None for a fragment without one.
    seq, ack: as printed, relative or not. sack: likewise.
    length: bytes of TCP payload.
    options: encoded, SACK blocks apart, with NOPs in the place of those whose value is not told.
    ip_options: encoded.
    packet: all bytes from the IP header on, where the log has them in hexadecimal.
    """

    source: Name
    destination: Name
    time: int | None = None
    flags: int | None = None
    seq: int | None = None
    ack: int | None = None
    sack: tuple[tuple[int, int], ...] = ()
    window: int | None = None
    length: int = 0
    options: bytes = b""
    ip_options: bytes = b""
    identification: int = 0
    ttl: int = 64
    dont_fragment: bool = False
    fragment: Piece | None = None
    packet: bytes = b""
