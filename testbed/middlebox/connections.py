"""The spliced connections of a proxy: found by key, translated, forgotten in time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from testbed.middlebox.function import ABSORB, PASS, Box, Verdict, drop
from testbed.middlebox.packet import (
    ACK,
    INSIDE,
    OUTSIDE,
    SYN,
    Packet,
    add_to_field,
    adjust_checksum,
)
from testbed.middlebox.segments import QuotedSegment
from testbed.middlebox.splice import Splice
from testbed.middlebox.tracking import Flow, Tracker

_BAD_CHECKSUM: Final = drop("bad-checksum")


@dataclass(eq=False, slots=True, kw_only=True)
class Connection(Flow):
    """One spliced connection.

    acknowledgement: the segment that completed the server leg, for when it was lost.
    """

    splice: Splice
    acknowledgement: bytearray


class Connections:
    """At most `limit` connections; silent ones are forgotten after `idle_timeout` seconds."""

    def __init__(self, box: Box, counters: Counter[str], limit: int, idle_timeout: float) -> None:
        self._box = box
        self._counters = counters
        self._tracker: Tracker[Connection] = Tracker(
            box, counters, limit, idle_timeout, evicted="evicted-spliced"
        )
        self.get = self._tracker.get
        self.forget = self._tracker.forget
        self.configure = self._tracker.configure

    def __len__(self) -> int:
        return len(self._tracker)

    def add(
        self, key: bytes, server_key: bytes, splice: Splice, acknowledgement: bytearray
    ) -> Connection:
        connection = Connection(
            last_used=self._box.now(), splice=splice, acknowledgement=acknowledgement
        )
        self._tracker.add(connection, key, server_key)
        self._counters["spliced"] += 1
        return connection

    def translate(self, connection: Connection, packet: Packet) -> Verdict:
        """Make a segment of one leg into one of the other."""
        splice = connection.splice
        if packet.side is INSIDE:
            if packet.flags & (SYN | ACK) == SYN | ACK:  # the acknowledgement was lost
                self._box.emit(connection.acknowledgement[:], INSIDE)
                self._tracker.saw(connection, INSIDE, 0)
                return ABSORB
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
                    self._tracker.saw(connection, packet.side, flags)
                    return ABSORB
        self._tracker.saw(connection, packet.side, flags)
        return PASS

    def release(self, connection: Connection, held: bytearray) -> None:
        """Translate and send on a segment of the client that was held."""
        packet = Packet()
        packet.load(held, len(held), OUTSIDE)
        flags = connection.splice.to_server(packet)
        first, *others = connection.splice.pieces(packet) or [held]
        self._box.release(first, INSIDE)
        for piece in others:
            self._box.emit(piece, INSIDE)
        self._tracker.saw(connection, OUTSIDE, flags)

    def translate_error(
        self, connection: Connection, packet: Packet, quoted: QuotedSegment
    ) -> None:
        """Make an ICMP error about one leg into one about the other.

        A host takes an error for its own only if the sequence number quoted is one that it has
        sent (RFC 5927 section 4.1), and only the server's are different.
        """
        if packet.side is OUTSIDE:
            shift = -connection.splice.shift
            delta = add_to_field(packet.buffer, quoted.seq_at, shift, packet.transport)
            adjust_checksum(packet.buffer, packet.checksum_at, delta)
