"""The box that takes TCP options away, or puts others in their place."""

from __future__ import annotations

import struct
from typing import Annotated

import msgspec

from testbed.middlebox import PASS, Box, Direction, Function, Verdict, function, sides_of
from testbed.wire.edit import blank_option, overwrite
from testbed.wire.flags import SYN
from testbed.wire.ip import TCP
from testbed.wire.options import (
    LEAST_MSS,
    MAX_WINDOW_SCALE,
    MSS,
    PLAIN_TIMESTAMPS,
    WINDOW_SCALE,
    OptionName,
    option_name,
)
from testbed.wire.packet import Packet

_HAS_OPTIONS = 0x60  # the data offset byte of the shortest header with options
_HAS_THREE_WORDS = 0x80

Mss = Annotated[int, msgspec.Meta(ge=LEAST_MSS, le=65495)]

_u16 = struct.Struct("!H")


class Rewrite(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"
):
    """Values put in the place of those in SYN segments that have the option; None leaves it.

    mss: the maximum segment size. window-scale: the shift of the window scale option.
    """

    mss: Mss | None = None
    window_scale: Annotated[int, msgspec.Meta(ge=0, le=MAX_WINDOW_SCALE)] | None = None


@function("options")
class TcpOptions(Function):
    """Takes TCP options away, rewrites them, and clamps the MSS."""

    protocols = frozenset({TCP})

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """What happens to TCP options. All can be set while traffic runs.

        strip: options that are overwritten with padding, in every segment. `sack` stands for
        SACK-permitted and for SACK blocks, `tfo` for both kinds of TCP Fast Open, `unknown` for
        all that have no name here.
        rewrite: other values for the MSS and the window scale of SYN segments.
        mss_clamp: the largest MSS that a SYN segment may name; smaller ones are left alone.
        direction: whose segments: `inward` are those from outside.
        """

        strip: tuple[OptionName, ...] = ()
        rewrite: Rewrite = Rewrite()
        mss_clamp: Mss | None = None
        direction: Direction = "both"

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self.reconfigure(options)

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._strip = frozenset(options.strip)
        self._sides = sides_of(options.direction)
        # Most options are in SYN segments alone: others need not be looked at then.
        self._beyond_syn = bool(self._strip - {"mss", "window-scale", "tfo"})
        self._passes_timestamps = "timestamps" not in self._strip
        self._window_scale = options.rewrite.window_scale
        self._mss = options.rewrite.mss

    def packet(self, packet: Packet) -> Verdict:
        buffer, tcp = packet.buffer, packet.transport
        opens = buffer[tcp + 13] & SYN
        if (
            buffer[tcp + 12] < _HAS_OPTIONS
            or packet.side not in self._sides
            or not (opens or self._beyond_syn)
        ):
            return PASS
        if (
            self._passes_timestamps
            and buffer[tcp + 12] == _HAS_THREE_WORDS
            and buffer[tcp + 20 : tcp + 24] == PLAIN_TIMESTAMPS
        ):
            return PASS
        for kind, at, size in packet.walk_options():
            name = option_name(packet.buffer, kind, at, size)
            if name in self._strip:
                blank_option(packet, at, size)
                self.counters[f"stripped-{name}"] += 1
            elif opens and kind == WINDOW_SCALE and size == 3 and self._window_scale is not None:
                overwrite(packet, at + 2, bytes((self._window_scale,)))
                self.counters["rewritten-window-scale"] += 1
            elif opens and kind == MSS and size == 4:
                self._settle_mss(packet, at + 2)
        return PASS

    def _settle_mss(self, packet: Packet, at: int) -> None:
        clamp = self.options.mss_clamp
        if self._mss is not None:
            overwrite(packet, at, _u16.pack(self._mss))
            self.counters["rewritten-mss"] += 1
        elif clamp is not None and _u16.unpack_from(packet.buffer, at)[0] > clamp:
            overwrite(packet, at, _u16.pack(clamp))
            self.counters["clamped-mss"] += 1
