"""The path that is narrower than it looks, and the filter that keeps this a secret."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from testbed.middlebox import PASS, Function, Verdict, drop, function
from testbed.wire.icmp import TOO_BIG, error_about
from testbed.wire.ip import DONT_FRAGMENT
from testbed.wire.packet import Packet

_TOO_BIG = drop("too-big")


@function("pmtu-black-hole")
class PmtuBlackHole(Function):
    """Drops what is larger than the next link's MTU, and tells the sender or does not."""

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """How narrow it is. All can be set while traffic runs.

        mtu: the largest packet that passes, in bytes. IPv4 packets that may be fragmented pass
        whole, as if they were put together again behind the narrow link.
        icmp: whether the sender of a larger one is told (`send`: Fragmentation Needed, Packet Too
        Big) or not (`drop`: as if a filter had dropped the error).
        """

        mtu: Annotated[int, msgspec.Meta(ge=68, le=65535)] = 1400
        icmp: Literal["send", "drop"] = "drop"

    options: Options

    def packet(self, packet: Packet) -> Verdict:
        if packet.length <= self.options.mtu:
            return PASS
        if packet.version == 4 and not packet.buffer[6] & DONT_FRAGMENT >> 8:
            self.counters["fragmentable"] += 1
            return PASS
        if self.options.icmp == "send":
            error = error_about(packet, TOO_BIG, self.options.mtu)
            if error is not None:
                self.counters["told"] += 1
                self.box.emit(error, packet.side)
        return _TOO_BIG
