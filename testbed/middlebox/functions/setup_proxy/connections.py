"""The spliced connections of a proxy: found by key, translated, forgotten in time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from testbed.middlebox import (
    ABSORB,
    PASS,
    Box,
    TcpFlow,
    TcpTable,
    Verdict,
    drop,
    tcp_phases,
)
from testbed.middlebox.functions.setup_proxy.opening import Opening
from testbed.middlebox.functions.setup_proxy.splice import Splice
from testbed.wire.checksum import adjust_checksum
from testbed.wire.edit import add_to_field
from testbed.wire.flags import ACK, SYN
from testbed.wire.icmp import Quote
from testbed.wire.packet import INSIDE, OUTSIDE, Packet

_ANSWERS: Final = SYN | ACK
_BAD_CHECKSUM: Final = drop("bad-checksum")


@dataclass(eq=False, slots=True, kw_only=True)
class Splicing(TcpFlow):
    """One spliced connection, followed with the numbers that the client sees.

    splice: what translates its segments.
    server_isn: the server's first sequence number.
    acknowledgement: the segment that completed the server leg, for when it was lost.
    """

    splice: Splice
    server_isn: int
    acknowledgement: bytearray


class Splicings:
    """At most `limit` connections; silent ones are forgotten after `idle_timeout` seconds."""

    def __init__(self, box: Box, counters: Counter[str], limit: int, idle_timeout: float) -> None:
        self._box = box
        self._counters = counters
        self._table: TcpTable[Splicing] = TcpTable(
            box,
            tcp_phases(idle_timeout),
            limit=limit,
            counters=counters,
            evicted="evicted-spliced",
        )
        self.find = self._table.find
        self.get = self._table.get

    def __len__(self) -> int:
        return len(self._table)

    def configure(self, limit: int, idle_timeout: float) -> None:
        """Other limits hold from now on."""
        self._table.configure(tcp_phases(idle_timeout), limit=limit)

    def add(self, opening: Opening) -> Splicing:
        """A connection whose legs are both up, and what the client has sent meanwhile."""
        assert opening.splice is not None and opening.server_isn is not None
        connection = Splicing(
            splice=opening.splice,
            server_isn=opening.server_isn,
            acknowledgement=opening.acknowledgement(),
            ended=1 << INSIDE if opening.server_ended else 0,
        )
        self._counters["spliced"] += 1
        answer = Packet()
        answer.load(data := opening.answer(), len(data), INSIDE)
        scale = opening.client.window_scale
        connection.scales[OUTSIDE] = -1 if scale is None else scale
        self._table.add(connection, opening.key, opening.server_key, phase=1)
        self._table.saw(connection, answer)
        for held in opening.held.values():
            self._release(connection, held)
        return connection

    def translate(self, connection: Splicing, packet: Packet) -> Verdict:
        """Make a segment of one leg into one of the other."""
        splice = connection.splice
        if packet.side is INSIDE:
            if packet.buffer[packet.transport + 13] & _ANSWERS == _ANSWERS:
                return self._server_answers(connection, packet)
            splice.to_client(packet)
            self._table.saw(connection, packet)
            return PASS
        self._table.saw(connection, packet)
        splice.to_server(packet)
        if splice.cuts:
            pieces = splice.pieces(packet)
            if pieces:
                if not packet.checksum_is_right():
                    return _BAD_CHECKSUM
                for piece in pieces:
                    self._box.emit(piece, INSIDE)
                return ABSORB
        return PASS

    def _server_answers(self, connection: Splicing, packet: Packet) -> Verdict:
        """A SYN/ACK: our acknowledgement was lost, or the server has forgotten the connection and
        answers a new SYN of the client, which had passed; theirs is a connection without us.
        """
        if packet.seq == connection.server_isn:
            self._box.emit(connection.acknowledgement[:], INSIDE)
            return ABSORB
        self._table.remove(connection)
        return PASS

    def _release(self, connection: Splicing, held: bytearray) -> None:
        """Translate and send on a segment of the client that was held."""
        packet = Packet()
        packet.load(held, len(held), OUTSIDE)
        self._table.saw(connection, packet)
        connection.splice.to_server(packet)
        first, *others = connection.splice.pieces(packet) or [held]
        self._box.release(first, INSIDE)
        for piece in others:
            self._box.emit(piece, INSIDE)

    def translate_error(self, connection: Splicing, packet: Packet, quoted: Quote) -> None:
        """Make an ICMP error about one leg into one about the other.

        A host takes an error for its own only if the sequence number quoted is one that it has
        sent (RFC 5927 section 4.1), and only the server's are different.
        """
        if packet.side is OUTSIDE:
            shift = -connection.splice.shift
            delta = add_to_field(packet.buffer, quoted.seq_at, shift, packet.transport)
            adjust_checksum(packet.buffer, packet.checksum_at, delta)
