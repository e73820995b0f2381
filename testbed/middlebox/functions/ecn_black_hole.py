"""The box that takes packets with ECN bits for an attack."""

from __future__ import annotations

from typing import Literal

import msgspec

from testbed.middlebox import PASS, Direction, Function, Verdict, drop, function, sides_of
from testbed.wire.edit import traffic_class
from testbed.wire.flags import ACK, CWR, ECE, SYN
from testbed.wire.ip import ECN_FIELD, TCP
from testbed.wire.packet import Packet

_SETUP = drop("ecn-setup")
_CAPABLE = drop("ecn-capable")
_SETUP_FLAGS = SYN | ECE | CWR  # RFC 3168 section 6.1.1


@function("ecn-black-hole")
class EcnBlackHole(Function):
    """Drops SYNs that ask for ECN, or all packets that are ECN-capable."""

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """What is dropped. All can be set while traffic runs.

        drop: SYNs that ask for ECN (`setup`), packets whose IP header says that their transport
        can do ECN (`capable`), or `none`.
        direction: of which packets.
        """

        drop: Literal["setup", "capable", "none"] = "setup"
        direction: Direction = "both"

    options: Options

    def packet(self, packet: Packet) -> Verdict:
        what = self.options.drop
        if what == "none" or packet.side not in sides_of(self.options.direction):
            return PASS
        if what == "capable":
            return _CAPABLE if traffic_class(packet.buffer) & ECN_FIELD else PASS
        asks = packet.protocol == TCP and packet.flags & (_SETUP_FLAGS | ACK) == _SETUP_FLAGS
        return _SETUP if asks else PASS
