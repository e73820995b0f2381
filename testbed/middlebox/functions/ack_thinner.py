"""The box that spares a narrow way back most of the acknowledgements."""

from __future__ import annotations

from dataclasses import dataclass, field
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
    Function,
    TcpFlow,
    TcpTable,
    Timer,
    Verdict,
    function,
    sides_of,
    tcp_phases,
)
from testbed.wire.flags import ACK, PSH, SYN
from testbed.wire.ip import TCP
from testbed.wire.options import SACK
from testbed.wire.packet import INSIDE, OUTSIDE, Packet, Side
from testbed.wire.sequence import is_after

_FLAGS = 0xFF & ~PSH
_PHASES = tcp_phases(300.0)  # nothing is lost with a flow that holds nothing


@dataclass(eq=False, slots=True)
class _Row:
    """The acknowledgements of one side.

    ack: the highest one seen; None before the first.
    spared: how many were thinned out or are held.
    held: the newest one, which waits for its successor.
    timer: what lets that go when none comes.
    """

    side: Side
    ack: int | None = None
    spared: int = 0
    held: bytearray | None = None
    timer: Timer | None = None

    def acknowledges_more(self, ack: int) -> bool:
        """Whether a number is higher than those before it, of which there was one."""
        old = self.ack
        if old is None:
            self.ack = ack
            return False
        more = is_after(ack, old)
        if more:
            self.ack = ack
        return more


@dataclass(eq=False, slots=True, kw_only=True)
class _Thinned(TcpFlow):
    """One connection, with a row for the outside and one for the inside."""

    rows: tuple[_Row, _Row] = field(default_factory=lambda: (_Row(OUTSIDE), _Row(INSIDE)))


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
        connection_limit: connections remembered; beyond, the least recently used one is
        forgotten.
        """

        keep: Annotated[str, msgspec.Meta(pattern=r"^1/[1-9][0-9]{0,3}$")] = "1/4"
        delay: Duration = 0.02
        direction: Direction = "both"
        connection_limit: Count = 65536

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self._flows: TcpTable[_Thinned] = TcpTable(
            box, _PHASES, counters=self.counters, on_end=self._ended
        )
        self.reconfigure(options)

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._row = int(options.keep.removeprefix("1/"))
        self._sides = sides_of(options.direction)
        self._flows.configure(_PHASES, limit=options.connection_limit)

    def gauges(self) -> dict[str, int]:
        return {"now-followed": len(self._flows)}

    def packet(self, packet: Packet) -> Verdict:
        flags = packet.flags
        flow = self._flows.find(packet)
        pure = flags & _FLAGS == ACK and packet.payload == packet.end
        thins = self.enabled and packet.side in self._sides and self._row > 1
        if flow is None:
            if not (pure and thins):
                return PASS
            flow = _Thinned()
            self._flows.begin(flow, packet)
        if pure and not packet.checksum_is_right():
            return PASS
        self._flows.saw(flow, packet)
        row = flow.rows[packet.side]
        if flags & SYN:  # acknowledgements begin anew
            for one in flow.rows:
                self._let_go(one)
                one.ack = None
        credible = bool(flags & ACK) and flow.could_acknowledge(packet)
        more = credible and row.acknowledges_more(packet.ack)
        if not (thins and pure and more) or _has_blocks(packet):
            self._let_go(row)
            return PASS
        return self._spare(row, packet)

    def _spare(self, row: _Row, packet: Packet) -> Verdict:
        """Hold the newest, throw away the one it takes the place of."""
        if row.held is not None:
            self.box.abandon(1, "thinned")
            row.held = None
        row.spared += 1
        if row.spared >= self._row:
            self._clear(row)
            return PASS
        row.held = packet.copy()
        if row.timer is None:
            row.timer = self.box.call_later(self.options.delay, partial(self._late, row))
        return HOLD

    def _late(self, row: _Row) -> None:
        self.counters["late"] += 1
        row.timer = None
        self._let_go(row)

    def _ended(self, flow: _Thinned, cause: str) -> None:
        for row in flow.rows:
            self._let_go(row)

    def _let_go(self, row: _Row) -> None:
        """Send on what is held and begin another row."""
        if row.held is not None:
            self.box.release(row.held, row.side.other)
            row.held = None
        self._clear(row)

    def _clear(self, row: _Row) -> None:
        row.spared = 0
        if row.timer is not None:
            row.timer.cancel()
            row.timer = None


def _has_blocks(packet: Packet) -> bool:
    return any(kind == SACK for kind, _, _ in packet.walk_options())
