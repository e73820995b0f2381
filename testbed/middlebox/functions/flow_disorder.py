"""The box that lets packets of one flow overtake each other, or sends them twice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import msgspec

from testbed.middlebox import (
    HOLD,
    PASS,
    Box,
    Count,
    Direction,
    Duration,
    Flow,
    FlowTable,
    Function,
    Phase,
    Timer,
    Verdict,
    function,
    sides_of,
)
from testbed.wire.flags import FIN, RST, SYN
from testbed.wire.ip import TCP, UDP
from testbed.wire.packet import Packet, Side

_PHASES = (Phase(timeout=300.0),)  # a flow that is silent longer begins to count anew


@dataclass(eq=False, slots=True, kw_only=True)
class _Counted(Flow):
    """One direction of a flow.

    side: where its packets come from.
    packets: with data, up to now.
    held: the one that is overtaken, by `overtaken` others up to now.
    """

    side: Side
    packets: int = 0
    held: bytearray | None = None
    overtaken: int = 0
    timer: Timer | None = None


@function("flow-disorder")
class FlowDisorder(Function):
    """Reorders or doubles every Nth packet with data of each flow, TCP or UDP."""

    protocols = frozenset({TCP, UDP})
    drains = True

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """What happens to which packets. All can be set while traffic runs.

        action: `reorder`, `duplicate` or `none`.
        every: it happens to every so many-th packet with data, counted for each flow and each
        direction alone.
        behind: by how many packets of its flow a reordered one is overtaken.
        delay: the longest that it waits for them, in seconds.
        direction: of which packets.
        connection_limit: directions of flows remembered; beyond, the least recently used one is
        forgotten.
        """

        action: Literal["reorder", "duplicate", "none"] = "reorder"
        every: Count = 10
        behind: Count = 3
        delay: Duration = 0.05
        direction: Direction = "both"
        connection_limit: Count = 65536

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self._flows: FlowTable[_Counted] = FlowTable(
            box, _PHASES, limit=options.connection_limit, counters=self.counters, on_end=self._ended
        )

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._flows.configure(_PHASES, limit=options.connection_limit)

    def gauges(self) -> dict[str, int]:
        return {"now-counted": len(self._flows)}

    def packet(self, packet: Packet) -> Verdict:
        flow = self._flows.get(packet.key)
        if flow is not None and flow.held is not None:
            if flow.overtaken >= self.options.behind or _ends(packet):
                self._let_go(flow)
            flow.overtaken += 1
        action = self.options.action
        if (
            action == "none"
            or not self.enabled
            or packet.side not in sides_of(self.options.direction)
            or not _has_data(packet)
        ):
            return PASS
        if flow is None:
            flow = _Counted(side=packet.side)
            self._flows.add(flow, packet.key)
        self._flows.use(flow)
        flow.packets += 1
        if flow.packets % self.options.every or flow.held is not None:
            return PASS
        if action == "duplicate":
            self.counters["duplicated"] += 1
            self.box.emit(packet.copy(), packet.side.other)
            return PASS
        self.counters["reordered"] += 1
        flow.held, flow.overtaken = packet.copy(), 0
        flow.timer = self.box.call_later(self.options.delay, partial(self._let_go, flow))
        return HOLD

    def _ended(self, flow: _Counted, cause: str) -> None:
        self._let_go(flow)

    def _let_go(self, flow: _Counted) -> None:
        if flow.held is not None:
            self.box.release(flow.held, flow.side.other)
            flow.held = None
        if flow.timer is not None:
            flow.timer.cancel()
            flow.timer = None


def _has_data(packet: Packet) -> bool:
    if packet.protocol == TCP:
        return packet.payload < packet.end
    return packet.transport + 8 < packet.end


def _ends(packet: Packet) -> bool:
    """Whether nothing should come behind it."""
    return packet.protocol == TCP and bool(packet.flags & (SYN | FIN | RST))
