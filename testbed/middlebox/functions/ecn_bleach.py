"""The box that clears the bits of explicit congestion notification."""

from __future__ import annotations

from typing import Literal

import msgspec

from testbed.middlebox import PASS, Direction, Function, Verdict, function, sides_of
from testbed.wire.edit import clear_ecn_flags, set_traffic_class, traffic_class
from testbed.wire.ip import CONGESTION_EXPERIENCED, ECN_FIELD, TCP
from testbed.wire.packet import Packet


@function("ecn-bleach")
class EcnBleach(Function):
    """Clears ECN bits in IP headers, TCP headers, or both."""

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """What is cleared. All can be set while traffic runs.

        bits: the ECN field of `ip` (it comes through as not ECN-capable, marks are lost), the
        flags of `tcp` (ECE, CWR and AE: ECN cannot be agreed on), or `both`.
        direction: of which packets.
        """

        bits: Literal["ip", "tcp", "both"] = "both"
        direction: Direction = "both"

    options: Options

    def packet(self, packet: Packet) -> Verdict:
        if packet.side not in sides_of(self.options.direction):
            return PASS
        bits = self.options.bits
        if bits != "tcp":
            self._bleach_ip(packet)
        if bits != "ip" and packet.protocol == TCP:
            self._bleach_tcp(packet)
        return PASS

    def _bleach_ip(self, packet: Packet) -> None:
        value = traffic_class(packet.buffer)
        field = value & ECN_FIELD
        if field:
            set_traffic_class(packet.buffer, value & ~ECN_FIELD)
            self.counters["marks" if field == CONGESTION_EXPERIENCED else "capable"] += 1

    def _bleach_tcp(self, packet: Packet) -> None:
        if clear_ecn_flags(packet):
            self.counters["flags"] += 1
