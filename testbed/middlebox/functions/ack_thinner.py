"""The box that spares a narrow way back most of the acknowledgements."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import msgspec

from testbed.middlebox import (
    HOLD,
    PASS,
    Box,
    Count,
    Direction,
    Duration,
    Flow,
    Function,
    Timer,
    Tracker,
    Verdict,
    function,
    sides_of,
)
from testbed.wire.flags import ACK, PSH
from testbed.wire.ip import TCP
from testbed.wire.options import SACK
from testbed.wire.packet import Packet, Side
from testbed.wire.sequence import MODULUS

_FLAGS = 0xFF & ~PSH
_IDLE = 300.0  # seconds; nothing is lost with a flow that holds nothing


@dataclass(eq=False, slots=True, kw_only=True)
class _Acknowledger(Flow):
    """One direction of a connection.

    ack: the highest one seen. spared: how many of the row were thinned out or are held. held: the
    newest one, which waits for its successor.
    """

    side: Side
    ack: int
    spared: int = 0
    held: bytearray | None = None
    timer: Timer | None = None


@function("ack-thinner")
class AckThinner(Function):
    """Lets one of N pure acknowledgements through, always the newest."""

    protocols = frozenset({TCP})
    drains = True

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """How many are let through. All can be set while traffic runs.

        keep: one of how many, written `1/N`. An acknowledgement gives way to the next one that
        acknowledges more; duplicates, window updates, SACK blocks and everything that carries
        data or other flags pass at once.
        delay: seconds that one waits for the next; then it is let through.
        direction: of which acknowledgements.
        connection_limit: directions of connections remembered; beyond, the least recently used
        one is forgotten.
        """

        keep: Annotated[str, msgspec.Meta(pattern=r"^1/[1-9][0-9]{0,3}$")] = "1/4"
        delay: Duration = 0.02
        direction: Direction = "both"
        connection_limit: Count = 65536

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self._flows: Tracker[_Acknowledger] = Tracker(
            box, self.counters, options.connection_limit, _IDLE, on_end=self._let_go
        )
        self.reconfigure(options)

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._row = int(options.keep.removeprefix("1/"))
        self._sides = sides_of(options.direction)
        self._flows.configure(options.connection_limit, _IDLE)

    def gauges(self) -> dict[str, int]:
        return {"now-followed": len(self._flows)}

    def packet(self, packet: Packet) -> Verdict:
        flow = self._flows.find(packet)
        pure = packet.flags & _FLAGS == ACK and packet.payload == packet.end
        if flow is None:
            if pure and self.enabled and packet.side in self._sides:
                flow = _Acknowledger(last_used=self.box.now(), side=packet.side, ack=packet.ack)
                self._flows.add(flow, packet.key)
            return PASS
        if pure and not packet.checksum_is_right():
            return PASS
        self._flows.saw(flow, packet.side, packet.flags)
        more = 0 < (packet.ack - flow.ack) % MODULUS < MODULUS // 2
        if more:
            flow.ack = packet.ack
        thins = self.enabled and packet.side in self._sides and self._row > 1
        if not (thins and pure and more) or _has_blocks(packet):
            self._let_go(flow)
            return PASS
        return self._spare(flow, packet)

    def _spare(self, flow: _Acknowledger, packet: Packet) -> Verdict:
        """Hold the newest, throw away the one it takes the place of."""
        if flow.held is not None:
            self.box.abandon(1, "thinned")
            flow.held = None
        flow.spared += 1
        if flow.spared >= self._row:
            self._clear(flow)
            return PASS
        flow.held = packet.copy()
        if flow.timer is None:
            flow.timer = self.box.call_later(self.options.delay, partial(self._late, flow))
        return HOLD

    def _late(self, flow: _Acknowledger) -> None:
        self.counters["late"] += 1
        flow.timer = None
        self._let_go(flow)

    def _let_go(self, flow: _Acknowledger) -> None:
        """Send on what is held and begin another row."""
        if flow.held is not None:
            self.box.release(flow.held, flow.side.other)
            flow.held = None
        self._clear(flow)

    def _clear(self, flow: _Acknowledger) -> None:
        flow.spared = 0
        if flow.timer is not None:
            flow.timer.cancel()
            flow.timer = None


def _has_blocks(packet: Packet) -> bool:
    return any(kind == SACK for kind, _, _ in packet.walk_options())
