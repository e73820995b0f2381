"""The box that changes the window scale which one side has named, and tells neither."""

from __future__ import annotations

from typing import Annotated

import msgspec

from testbed.middlebox import (
    PASS,
    Direction,
    Function,
    Verdict,
    function,
    sides_of,
)
from testbed.wire.edit import overwrite
from testbed.wire.flags import SYN
from testbed.wire.ip import TCP
from testbed.wire.options import MAX_WINDOW_SCALE, WINDOW_SCALE
from testbed.wire.packet import Packet


@function("window-scale-mangler")
class WindowScaleMangler(Function):
    """Rewrites the window scale of SYN segments one way, and lets the windows be."""

    protocols = frozenset({TCP})

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """Whose scale becomes what. All can be set while traffic runs.

        scale: the shift that the other side will read; None leaves it as it is.
        direction: whose SYN segments are changed. `inward`, those from outside: the inside takes
        the outside's windows for smaller (or larger) than they are.
        """

        scale: Annotated[int, msgspec.Meta(ge=0, le=MAX_WINDOW_SCALE)] | None = 0
        direction: Direction = "inward"

    options: Options

    def packet(self, packet: Packet) -> Verdict:
        scale = self.options.scale
        if (
            scale is None
            or not packet.flags & SYN
            or packet.side not in sides_of(self.options.direction)
        ):
            return PASS
        for kind, at, size in packet.walk_options():
            if kind == WINDOW_SCALE and size == 3 and packet.buffer[at + 2] != scale:
                overwrite(packet, at + 2, bytes((scale,)))
                self.counters["mangled"] += 1
        return PASS
