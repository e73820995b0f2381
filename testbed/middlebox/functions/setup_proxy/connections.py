"""The spliced connections of a proxy: found by key, translated, forgotten in time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Final

from testbed.middlebox import ABSORB, PASS, Box, FlowTable, Timer, Verdict, drop
from testbed.middlebox.functions.setup_proxy.opening import Opening
from testbed.middlebox.functions.setup_proxy.splice import Splice
from testbed.wire.checksum import adjust_checksum
from testbed.wire.edit import add_to_field
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.icmp import Quote
from testbed.wire.packet import INSIDE, OUTSIDE, Packet, Side

_LINGER: Final = 60.0  # seconds that a closed connection is still translated, as TIME-WAIT
_BAD_CHECKSUM: Final = drop("bad-checksum")
_BOTH: Final = 0b11


@dataclass(eq=False, slots=True)
class Connection:
    """One spliced connection.

    server_isn: the server's first sequence number. acknowledgement: the segment that completed the
    server leg, for when it was lost. ended: the sides that have sent a FIN, as bits; both after a
    RST. linger: what will forget it, once both sides have ended.
    """

    splice: Splice
    server_isn: int
    acknowledgement: bytearray
    last_used: float
    ended: int = 0
    linger: Timer | None = None

    @property
    def closed(self) -> bool:
        """Whether both sides have ended it, as far as can be told from outside."""
        return self.linger is not None


class Connections:
    """At most `limit` connections; silent ones are forgotten after `idle_timeout` seconds."""

    def __init__(self, box: Box, counters: Counter[str], limit: int, idle_timeout: float) -> None:
        self._box = box
        self._counters = counters
        self._idle_timeout = idle_timeout
        self._table: FlowTable[Connection] = FlowTable(limit, self._evict)
        self._sweep: Timer | None = None
        self.get = self._table.get

    def __len__(self) -> int:
        return len(self._table)

    def configure(self, limit: int, idle_timeout: float) -> None:
        """Other limits hold from now on."""
        self._table.limit = limit
        self._idle_timeout = idle_timeout
        self._forget_idle()

    def add(self, opening: Opening) -> Connection:
        """A connection whose legs are both up, and what the client has sent meanwhile."""
        assert opening.splice is not None and opening.server_isn is not None
        connection = Connection(
            opening.splice, opening.server_isn, opening.acknowledgement(), self._box.now()
        )
        self._table.add(connection, opening.key, opening.server_key)
        self._counters["spliced"] += 1
        if self._sweep is None:
            self._forget_idle()
        if opening.server_ended:
            self._look_for_end(connection, INSIDE, FIN)
        for held in opening.held.values():
            self._release(connection, held)
        return connection

    def forget(self, connection: Connection) -> None:
        """Translate it no longer."""
        self._table.remove(connection)
        if connection.linger is not None:
            connection.linger.cancel()

    def translate(self, connection: Connection, packet: Packet) -> Verdict:
        """Make a segment of one leg into one of the other."""
        self._table.touch(connection)
        connection.last_used = self._box.now()
        splice = connection.splice
        if packet.side is INSIDE:
            if packet.flags & (SYN | ACK) == SYN | ACK:
                return self._server_answers(connection, packet)
            flags = splice.to_client(packet)
        else:
            flags = splice.to_server(packet)
            if splice.cuts:
                pieces = splice.pieces(packet)
                if pieces:
                    if not packet.checksum_is_right():
                        return _BAD_CHECKSUM
                    for piece in pieces:
                        self._box.emit(piece, INSIDE)
                    self._look_for_end(connection, packet.side, flags)
                    return ABSORB
        if flags & (FIN | RST):
            self._look_for_end(connection, packet.side, flags)
        return PASS

    def _server_answers(self, connection: Connection, packet: Packet) -> Verdict:
        """A SYN/ACK: our acknowledgement was lost, or the server has forgotten the connection and
        answers a new SYN of the client, which had passed; theirs is a connection without us.
        """
        if packet.seq == connection.server_isn:
            self._box.emit(connection.acknowledgement[:], INSIDE)
            return ABSORB
        self.forget(connection)
        return PASS

    def _release(self, connection: Connection, held: bytearray) -> None:
        """Translate and send on a segment of the client that was held."""
        packet = Packet()
        packet.load(held, len(held), OUTSIDE)
        flags = connection.splice.to_server(packet)
        first, *others = connection.splice.pieces(packet) or [held]
        self._box.release(first, INSIDE)
        for piece in others:
            self._box.emit(piece, INSIDE)
        self._look_for_end(connection, OUTSIDE, flags)

    def translate_error(self, connection: Connection, packet: Packet, quoted: Quote) -> None:
        """Make an ICMP error about one leg into one about the other.

        A host takes an error for its own only if the sequence number quoted is one that it has
        sent (RFC 5927 section 4.1), and only the server's are different.
        """
        if packet.side is OUTSIDE:
            shift = -connection.splice.shift
            delta = add_to_field(packet.buffer, quoted.seq_at, shift, packet.transport)
            adjust_checksum(packet.buffer, packet.checksum_at, delta)

    # The end

    def _look_for_end(self, connection: Connection, side: Side, flags: int) -> None:
        if flags & RST:
            connection.ended = _BOTH
        elif flags & FIN:
            connection.ended |= 1 << side
        if connection.ended == _BOTH and connection.linger is None:
            self._linger(connection, _LINGER)

    def _linger(self, connection: Connection, wait: float) -> None:
        connection.linger = self._box.call_later(wait, partial(self._end_linger, connection))

    def _end_linger(self, connection: Connection) -> None:
        """Forget it, unless the reset was none that its receiver believed."""
        wait = connection.last_used + _LINGER - self._box.now()
        if wait <= 0:
            self.forget(connection)
        else:
            self._linger(connection, wait)

    def _evict(self, connection: Connection) -> None:
        self._counters["evicted-spliced"] += 1
        self.forget(connection)

    def _forget_idle(self) -> None:
        """Forget who was silent too long; come back when it is the next one's turn."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while (oldest := self._table.oldest()) is not None:
            wait = oldest.last_used + self._idle_timeout - self._box.now()
            if wait > 0:
                self._sweep = self._box.call_later(wait, self._forget_idle)
                return
            self._counters["idle"] += 1
            self.forget(oldest)
