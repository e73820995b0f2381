"""The box that gives connections other initial sequence numbers, and may forget the SACK blocks."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

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
from testbed.wire.checksum import adjust_checksum
from testbed.wire.edit import add_to_field
from testbed.wire.flags import ACK, opens_connection
from testbed.wire.icmp import quoted_segment
from testbed.wire.ip import ICMP, ICMPV6, TCP
from testbed.wire.options import PLAIN_TIMESTAMPS, SACK
from testbed.wire.packet import INSIDE, OUTSIDE, Packet
from testbed.wire.sequence import MASK

_HAS_OPTIONS = 0x60

_numbers = struct.Struct("!II")


@dataclass(eq=False, slots=True, kw_only=True)
class _Shifted(TcpFlow):
    """One connection; shifts: what is added to sequence numbers of the outside and the inside."""

    shifts: tuple[int, int]


@function("sequence-randomiser")
class SequenceRandomiser(Function):
    """New connections get other sequence numbers than their ends have chosen."""

    protocols = frozenset({TCP, ICMP, ICMPV6})
    drains = True

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """How it translates. All can be set while traffic runs.

        translate_sack: whether the edges of SACK blocks are translated with the acknowledgements.
        False is the classic bug: the sender is told of data that it has never sent.
        direction: whose numbers are changed: `inward` are those of the side outside.
        connection_limit: connections remembered; beyond, the least recently used one is forgotten
        (and breaks).
        idle_timeout: seconds after which a silent connection is forgotten.
        """

        translate_sack: bool = True
        direction: Direction = "both"
        connection_limit: Count = 65536
        idle_timeout: Duration = 7440.0

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self._flows: TcpTable[_Shifted] = TcpTable(
            box,
            tcp_phases(options.idle_timeout),
            limit=options.connection_limit,
            counters=self.counters,
        )

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._flows.configure(tcp_phases(options.idle_timeout), limit=options.connection_limit)

    def gauges(self) -> dict[str, int]:
        return {"now-randomised": len(self._flows)}

    def packet(self, packet: Packet) -> Verdict:
        if packet.protocol != TCP:
            self._translate_error(packet)
            return PASS
        flags = packet.flags
        flow = self._flows.find(packet)
        if flow is None and self.enabled and opens_connection(flags):
            flow = self._begin(packet)
        if flow is None:
            return PASS
        if packet.side is OUTSIDE:  # the table follows the numbers of the outside
            self._flows.saw(flow, packet)
            self._translate(flow, packet, flags)
        else:
            self._translate(flow, packet, flags)
            self._flows.saw(flow, packet)
        return PASS

    def _begin(self, packet: Packet) -> _Shifted:
        sides = sides_of(self.options.direction)
        outside, inside = (
            int.from_bytes(os.urandom(4), "big") if side in sides else 0
            for side in (OUTSIDE, INSIDE)
        )
        flow = _Shifted(shifts=(outside, inside))
        self._flows.begin(flow, packet)
        self.counters["randomised"] += 1
        return flow

    def _translate(self, flow: _Shifted, packet: Packet, flags: int) -> None:
        buffer, tcp = packet.buffer, packet.transport
        seq, ack = _numbers.unpack_from(buffer, tcp + 4)
        others = flow.shifts[packet.side.other]
        moved_seq = (seq + flow.shifts[packet.side]) & MASK
        moved_ack = (ack - others) & MASK if flags & ACK else ack
        _numbers.pack_into(buffer, tcp + 4, moved_seq, moved_ack)
        delta = moved_seq - seq + moved_ack - ack
        if others and buffer[tcp + 12] >= _HAS_OPTIONS:
            delta += self._translate_blocks(packet, others)
        adjust_checksum(buffer, tcp + 16, delta)

    def _translate_blocks(self, packet: Packet, shift: int) -> int:
        """What is added to the checksummed words."""
        start, delta = packet.transport + 20, 0
        if packet.payload == start + 12 and packet.buffer[start : start + 4] == PLAIN_TIMESTAMPS:
            return 0  # nearly all segments, without a look at each option
        for kind, at, size in packet.walk_options():
            if kind != SACK:
                continue
            if not self.options.translate_sack:
                self.counters["blocks-left"] += 1
                continue
            for edge in range(at + 2, at + size - 3, 4):
                delta += add_to_field(packet.buffer, edge, -shift, packet.transport)
        return delta

    def _translate_error(self, packet: Packet) -> None:
        """An ICMP error must quote a number that its receiver has sent (RFC 5927 section 4.1)."""
        quoted = quoted_segment(packet)
        flow = None if quoted is None else self._flows.get(quoted.key)
        if quoted is None or flow is None:
            return
        shift = -flow.shifts[packet.side.other]
        delta = add_to_field(packet.buffer, quoted.seq_at, shift, packet.transport)
        adjust_checksum(packet.buffer, packet.checksum_at, delta)
