"""The box that ends connections which are not its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from testbed.middlebox import (
    PASS,
    Box,
    Count,
    Direction,
    Duration,
    Function,
    TcpFlow,
    TcpTable,
    Verdict,
    function,
    sides_of,
    tcp_phases,
)
from testbed.wire.craft import reset
from testbed.wire.flags import ACK
from testbed.wire.ip import TCP
from testbed.wire.packet import Packet, reverse_key

_AWAY = {"exact": 0, "in-window": 1, "outside-window": -(1 << 30)}


@dataclass(eq=False, slots=True, kw_only=True)
class _Watched(TcpFlow):
    """One connection.

    data_segments: seen so far.
    struck: whether it had its resets already.
    """

    data_segments: int = 0
    struck: bool = False


@function("reset-injector")
class ResetInjector(Function):
    """Watches data go by, and sends resets in the name of the other end."""

    protocols = frozenset({TCP})

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """When it strikes, and how well it aims. All can be set while traffic runs.

        after: the data segment of a connection, both directions counted, from which on it may
        strike. It strikes once per connection; the segment itself passes, behind the reset.
        match: it strikes only at a segment with this text in its payload (UTF-8).
        toward: who gets resets: both ends, or the one reached by going `inward` or `outward`.
        sequence: `exact` is the number that the receiver expects next; `in-window` is one beyond,
        for which it must ask back, and `outside-window` one it must ignore (RFC 5961 section 3).
        connection_limit: connections watched; beyond, the least recently used one is forgotten.
        idle_timeout: seconds after which a silent connection is forgotten.
        """

        after: Count = 1
        match: str | None = None
        toward: Direction = "both"
        sequence: Literal["exact", "in-window", "outside-window"] = "exact"
        connection_limit: Count = 65536
        idle_timeout: Duration = 7440.0

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self._flows: TcpTable[_Watched] = TcpTable(
            box, tcp_phases(options.idle_timeout), counters=self.counters
        )
        self.reconfigure(options)

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._flows.configure(tcp_phases(options.idle_timeout), limit=options.connection_limit)
        self._match = None if options.match is None else options.match.encode()

    def gauges(self) -> dict[str, int]:
        return {"now-watched": len(self._flows)}

    def packet(self, packet: Packet) -> Verdict:
        flow = self._flows.find(packet)
        if packet.payload == packet.end or not packet.flags & ACK:
            if flow is not None:
                self._flows.saw(flow, packet)
            return PASS
        if flow is not None and flow.closed:
            return PASS
        if flow is None:
            flow = _Watched()
            self._flows.begin(flow, packet)
        self._flows.saw(flow, packet)
        flow.data_segments += 1
        if flow.data_segments >= self.options.after and not flow.struck and self._matches(packet):
            flow.struck = True
            self._strike(packet)
        return PASS

    def _matches(self, packet: Packet) -> bool:
        if self._match is None:
            return True
        return packet.buffer.find(self._match, packet.payload, packet.end) >= 0

    def _strike(self, packet: Packet) -> None:
        side = packet.side
        away = _AWAY[self.options.sequence]
        toward = {came_from.other for came_from in sides_of(self.options.toward)}
        self.counters["struck"] += 1
        if side.other in toward:
            self.box.emit(reset(packet.key, seq=packet.seq + away), side.other)
        if side in toward:
            self.box.emit(reset(reverse_key(packet.key), seq=packet.ack + away), side)
