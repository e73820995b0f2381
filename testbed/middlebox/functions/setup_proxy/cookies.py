"""SYN cookies: what a proxy needs to know of a SYN, kept by the client (RFC 4987 section 3.6).

A cookie is the sequence number of a SYN/ACK. The acknowledgement of it brings it back, and with
it the client's MSS, rounded down to one of four. Window scale and SACK do not fit in; as in Linux
(net/ipv4/syncookies.c) they travel in the lowest bits of the time stamp, if the client has any,
and are given up where it has none.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Callable
from hashlib import blake2s
from typing import Final

import msgspec

from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import Packet
from testbed.wire.sequence import MASK, MODULUS

_PERIOD: Final = 60.0  # seconds for which all cookies for the same SYN are the same
_PERIODS: Final = 2  # a cookie is good in the one in which it was made and in the next
LIFETIME: Final = _PERIODS * _PERIOD  # the longest that one may take to come back
# From above: the number of the period, as far as it fits, a signature, the data.
_COUNT_AT: Final = 24
_COUNTS: Final = MODULUS >> _COUNT_AT
_SIGNATURE_AT: Final = 3
_SIGNATURES: Final = 1 << _COUNT_AT - _SIGNATURE_AT
_DATA: Final = (1 << _SIGNATURE_AT) - 1

# The values of net/ipv4/syncookies.c and net/ipv6/syncookies.c, which fit two bits. A smaller one
# is taken for the first.
_MSS: Final = {4: (536, 1300, 1440, 1460), 6: (1220, 1420, 1440, 8940)}
_MSS_BITS: Final = 0b011
_HAS_TIMESTAMPS: Final = 0b100

# The lowest bits of a time stamp. The kernel has another one for ECN, which the proxy does not do.
_STAMP_BITS: Final = 0b11111
_STAMP_SCALE: Final = 0b01111
_STAMP_SACK: Final = 0b10000
_NO_SCALE: Final = 0b01111


class Cookie(msgspec.Struct, frozen=True):
    """isn: the sequence number of the SYN/ACK. clock: its TSval.

    client_isn: the client's first sequence number. client: what is remembered of its options.
    """

    isn: int
    clock: int
    client_isn: int
    client: HandshakeOptions


class SynCookies:
    """Makes cookies, and tells those that it has made. Its key is random and never told.

    clock: seconds of a clock that never steps.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._key = os.urandom(blake2s.MAX_KEY_SIZE)

    def make(self, packet: Packet, asked: HandshakeOptions) -> Cookie:
        """The cookie for a SYN. asked: its options, as far as they are granted."""
        count = self._count()
        mss = asked.mss or 0
        data = max(bisect_right(_MSS[packet.version], mss) - 1, 0)
        stamp = 0
        if asked.timestamps:
            data |= _HAS_TIMESTAMPS
            stamp = _NO_SCALE if asked.window_scale is None else asked.window_scale
            stamp |= _STAMP_SACK if asked.sack else 0
        signature = self._signature(packet.key, packet.seq, count, data)
        content = count << _COUNT_AT | signature << _SIGNATURE_AT | data
        isn = (content + self._disguise(packet.key)) & MASK
        clock = _clock_of(count) | stamp
        client = _remembered(packet.version, data, clock, asked.timestamps)
        return Cookie(isn, clock, packet.seq, client)

    def read(self, packet: Packet) -> Cookie | str:
        """The cookie that a segment of the client acknowledges; or `invalid`, or `stale`.

        Without payload the segment may also be a probe of the window or of an idle connection,
        whose sequence number is one less (RFC 9293 sections 3.8.4 and 3.8.6.1).
        """
        found = self._read(packet, (packet.seq - 1) & MASK)
        if found == "invalid" and packet.payload == packet.end:
            return self._read(packet, packet.seq)
        return found

    def _read(self, packet: Packet, client_isn: int) -> Cookie | str:
        isn = (packet.ack - 1) & MASK
        content = (isn - self._disguise(packet.key)) & MASK
        data = content & _DATA
        age = (self._count() - (content >> _COUNT_AT)) % _COUNTS
        count = self._count() - age
        signature = self._signature(packet.key, client_isn, count, data)
        if content >> _SIGNATURE_AT & (_SIGNATURES - 1) != signature:
            return "invalid"
        if age >= _PERIODS:
            return "stale"
        stamps = HandshakeOptions.of(packet.options()).timestamps
        clock = _clock_of(count)
        if data & _HAS_TIMESTAMPS:
            if stamps is None or stamps[1] & ~_STAMP_BITS != clock:
                return "invalid"
            clock = stamps[1]
        else:
            stamps = None
        return Cookie(isn, clock, client_isn, _remembered(packet.version, data, clock, stamps))

    def _count(self) -> int:
        return int(self._clock() // _PERIOD)

    def _disguise(self, flow: bytes) -> int:
        """32 bits that hide the content, others for each connection."""
        return int.from_bytes(blake2s(flow, key=self._key, digest_size=4).digest(), "big")

    def _signature(self, flow: bytes, client_isn: int, count: int, data: int) -> int:
        """21 bits that nobody else can tell."""
        signed = flow + struct.pack("!IqB", client_isn, count, data)
        digest = blake2s(signed, key=self._key, digest_size=4).digest()
        return int.from_bytes(digest, "big") % _SIGNATURES


def _clock_of(count: int) -> int:
    """The time stamp of a period in milliseconds, its lowest bits clear.

    It stands still for a period: a second answer to the same SYN must not look newer, because the
    client would take what the server sends then for old (RFC 7323 section 5.3).
    """
    return int(count * _PERIOD * 1000) & MASK & ~_STAMP_BITS


def _remembered(
    version: int, data: int, clock: int, stamps: tuple[int, int] | None
) -> HandshakeOptions:
    """The client's options, as a cookie knows them."""
    mss = _MSS[version][data & _MSS_BITS]
    if stamps is None:
        return HandshakeOptions(mss=mss)
    scale = clock & _STAMP_SCALE
    return HandshakeOptions(
        mss=mss,
        window_scale=None if scale == _NO_SCALE else scale,
        sack=bool(clock & _STAMP_SACK),
        timestamps=stamps,
    )
