"""What an endpoint wants of a connection, and what both have agreed upon."""

from __future__ import annotations

from typing import Final

import msgspec

from testbed.wire.options import ASSUMED_MSS, MAX_WINDOW_SCALE, HandshakeOptions
from testbed.wire.packet import address_length

LARGEST_WINDOW: Final = 0xFFFF  # without scale
TIMESTAMPS_SIZE: Final = 12  # bytes of the option, padded

Version = int


def version_of(key: bytes) -> Version:
    """4 or 6, by the addresses of a key."""
    return 4 if address_length(key) == 4 else 6


class TcpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One connection, or all that a listener accepts.

    receive_buffer, send_buffer: bytes. largest_segment: of those that are received; None for what
    the MTU permits. sack, timestamps, window_scaling: whether they are offered.
    keepalive: whether it is on; the three that follow are None for the defaults: idle and interval
    in seconds, and the number of probes.
    """

    receive_buffer: int = 262_144
    send_buffer: int = 262_144
    largest_segment: int | None = None
    sack: bool = True
    timestamps: bool = True
    window_scaling: bool = True
    keepalive: bool = False
    keepalive_idle: float | None = None
    keepalive_interval: float | None = None
    keepalive_probes: int | None = None

    @property
    def scale(self) -> int:
        """The shift that its windows need (RFC 7323 sections 2.2 and 2.3)."""
        if not self.window_scaling:
            return 0
        wanted = self.receive_buffer.bit_length() - LARGEST_WINDOW.bit_length()
        return min(max(wanted, 0), MAX_WINDOW_SCALE)

    def offer(self, mss: int, stamps: tuple[int, int]) -> HandshakeOptions:
        """The options of a SYN that opens. mss: what the MTU permits."""
        return HandshakeOptions(
            mss=min(mss, self.largest_segment or mss),
            window_scale=self.scale if self.window_scaling else None,
            sack=self.sack,
            timestamps=stamps if self.timestamps else None,
        )


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from both SYNs.

    named: the MSS that the other end has named, if it has. mss: that, or the default (RFC 9293
    section 3.7.1). own_scale, their_scale: of the windows that either announces.
    """

    named: int | None
    mss: int
    sack: bool
    timestamps: bool
    scaling: bool
    own_scale: int
    their_scale: int

    @classmethod
    def of(cls, settings: TcpSettings, theirs: HandshakeOptions, version: Version) -> Agreement:
        scales = settings.window_scaling and theirs.window_scale is not None
        return cls(
            named=theirs.mss,
            mss=theirs.mss or ASSUMED_MSS[version],
            sack=settings.sack and theirs.sack,
            timestamps=settings.timestamps and theirs.timestamps is not None,
            scaling=scales,
            own_scale=settings.scale if scales else 0,
            their_scale=(theirs.window_scale or 0) if scales else 0,
        )
