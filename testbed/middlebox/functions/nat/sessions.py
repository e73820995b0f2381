"""The sessions of a NAT: found from either side, translated, and ended after silence."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from testbed.middlebox import Box, Timer
from testbed.middlebox.functions.nat.bindings import Binding
from testbed.wire.checksum import adjust_checksum, adjust_udp_checksum, adjusted
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.ip import ICMP, TCP, UDP
from testbed.wire.packet import Packet, Side, reverse_key

HAVE_PORTS: Final = frozenset({TCP, UDP})
_BOTH: Final = 0b11
_CLOSES: Final = FIN | RST
_u16 = struct.Struct("!H")
_read16, _put16 = _u16.unpack_from, _u16.pack_into
# Both addresses and ports; of IPv4 with the header's checksum before them.
_put_key4 = struct.Struct("!H12s").pack_into
_put_key6 = struct.Struct("36s").pack_into


class Line(IntEnum):
    """Sessions that wait equally long; those first in this order make room first."""

    TRANSITORY = 0  # TCP that is not open yet, or closed
    ICMP = 1
    UDP = 2
    TCP = 3


@dataclass(eq=False, slots=True)
class Session:
    """One conversation with its endpoint inside, and the public one that stands for it.

    outward_key, inward_key: of packets that come from inside, and from outside, as they come;
    an ICMP identifier stands for both ports. sent_key, delivered_key: `Packet.key` of the same two
    when they are translated. delta: what the checksum's data grows by, outward;
    address_delta: the address's part in it. hairpins: whether it goes to a public endpoint of
    somebody inside. opener: the side that began it. answered: whether the other one has sent
    anything. ended: the sides that have sent a FIN, as bits; both after a RST.
    """

    protocol: int
    private_address: bytes
    private_port: bytes
    public_address: bytes
    public_port: bytes
    outward_key: bytes
    inward_key: bytes
    sent_key: bytes
    delivered_key: bytes
    mapping: Binding
    pair: Binding | None
    line: Line
    last_used: float
    address_delta: int
    delta: int
    opener: Side
    hairpins: bool = False
    answered: bool = False
    ended: int = 0

    @property
    def remote_address(self) -> bytes:
        """Of the endpoint outside, or what stands for it there."""
        width = len(self.private_address)
        return self.outward_key[width : 2 * width]

    def outward(self, packet: Packet) -> None:
        """Give a packet from inside its public source; checksums follow (RFC 1624)."""
        self._rewrite(packet, self.sent_key, self.public_port, self.address_delta, self.delta)

    def inward(self, packet: Packet) -> None:
        """Give a packet from outside its destination inside."""
        self._rewrite(
            packet, self.delivered_key, self.private_port, -self.address_delta, -self.delta
        )

    def _rewrite(
        self, packet: Packet, key: bytes, identifier: bytes, address_delta: int, delta: int
    ) -> None:
        """Put in another key; of ICMP another identifier, too."""
        buffer, at = packet.buffer, packet.transport
        ports_follow = self.protocol in HAVE_PORTS and at == (20 if packet.version == 4 else 40)
        if packet.version == 4 and ports_follow:
            (old,) = _read16(buffer, 10)
            _put_key4(buffer, 10, adjusted(old, address_delta), key)
        elif ports_follow:
            _put_key6(buffer, 8, key)
        elif packet.version == 4:
            buffer[12:20] = key[:8]
            adjust_checksum(buffer, 10, address_delta)
            _put_endpoints(buffer, at, key[8:], identifier)
        else:
            buffer[8:40] = key[:32]
            _put_endpoints(buffer, at, key[32:], identifier)
        if self.protocol == TCP:
            (old,) = _read16(buffer, at + 16)
            _put16(buffer, at + 16, adjusted(old, delta))
        else:
            self._finish(packet, delta)
        packet.key = key

    def _finish(self, packet: Packet, delta: int) -> None:
        """Adjust the checksum of UDP or ICMP."""
        adjust = adjust_udp_checksum if self.protocol == UDP else adjust_checksum
        adjust(packet.buffer, packet.checksum_at, delta)


def _put_endpoints(buffer: bytearray, at: int, ports: bytes, identifier: bytes) -> None:
    """Write the ports of a transport header at `at`; where it has none, of ICMP, its identifier."""
    if ports:
        buffer[at : at + 4] = ports
    else:
        buffer[at + 4 : at + 6] = identifier


def new_session(
    packet: Packet, key: bytes, mapping: Binding, pair: Binding | None, now: float
) -> Session:
    """The session that a packet begins; key: of those from inside, an ICMP identifier as ports."""
    protocol = packet.protocol
    width = (len(key) - 4) // 2
    port = _u16.pack(mapping.port)
    remote_port = key[-2:] if protocol in HAVE_PORTS else port
    inward_key = key[width : 2 * width] + mapping.address + remote_port + port
    length = None if protocol in HAVE_PORTS else -4  # of ICMP, `Packet.key` has the addresses only
    address_delta = int.from_bytes(mapping.address, "big") - int.from_bytes(key[:width], "big")
    port_delta = mapping.port - int.from_bytes(key[-4:-2], "big")
    return Session(
        protocol=protocol,
        private_address=key[:width],
        private_port=key[-4:-2],
        public_address=mapping.address,
        public_port=port,
        outward_key=key,
        inward_key=inward_key,
        sent_key=reverse_key(inward_key)[:length],
        delivered_key=reverse_key(key)[:length],
        mapping=mapping,
        pair=pair,
        line=_FIRST_LINE.get(protocol, Line.ICMP),
        last_used=now,
        opener=packet.side,
        # Modulo 65535, the sum of an address's words is the address itself.
        address_delta=address_delta % 0xFFFF,
        delta=(port_delta if protocol == ICMP else address_delta + port_delta) % 0xFFFF,
    )


_FIRST_LINE: Final = {TCP: Line.TRANSITORY, UDP: Line.UDP}


class Sessions:
    """At most `limit` sessions; one that is silent for the timeout of its line ends.

    on_end is told of each one that has ended, and why: `timed-out` or `evicted`.
    """

    def __init__(
        self,
        box: Box,
        limit: int,
        timeouts: Mapping[Line, float],
        on_end: Callable[[Session, str], None],
    ) -> None:
        self._box = box
        self._limit = limit
        self._timeouts = timeouts
        self._on_end = on_end
        # The same addresses and ports are two sessions where the protocols differ.
        self._outward: dict[tuple[int, bytes], Session] = {}
        self._inward: dict[tuple[int, bytes], Session] = {}
        self._lines: list[OrderedDict[Session, None]] = [OrderedDict() for _ in Line]
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._outward)

    def configure(self, limit: int, timeouts: Mapping[Line, float]) -> None:
        """Another limit and other timeouts hold from now on."""
        self._limit, self._timeouts = limit, timeouts
        self._make_room(limit)
        self._forget_silent()

    def from_inside(self, protocol: int, key: bytes) -> Session | None:
        """The session of a packet that came from inside with this key."""
        return self._outward.get((protocol, key))

    def from_outside(self, protocol: int, key: bytes) -> Session | None:
        """The session of a packet that came from outside with this key."""
        return self._inward.get((protocol, key))

    def add(self, session: Session) -> None:
        self._make_room(self._limit - 1)
        self._outward[session.protocol, session.outward_key] = session
        self._inward[session.protocol, session.inward_key] = session
        self._lines[session.line][session] = None
        self._schedule(session.last_used + self._timeouts[session.line])

    def use(self, session: Session, packet: Packet) -> None:
        """Take note of a packet, given as it came."""
        session.last_used = self._box.now()
        if packet.protocol == TCP:
            line = session.line
            if line is not Line.TCP or packet.buffer[packet.transport + 13] & _CLOSES:
                line = _next_line(session, packet)
            if line is not session.line:
                del self._lines[session.line][session]
                session.line = line
                self._lines[line][session] = None
                self._schedule(session.last_used + self._timeouts[line])
                return
        self._lines[session.line].move_to_end(session)

    def _end(self, session: Session, cause: str) -> None:
        del self._outward[session.protocol, session.outward_key]
        del self._inward[session.protocol, session.inward_key]
        del self._lines[session.line][session]
        self._on_end(session, cause)

    def _make_room(self, most: int) -> None:
        while len(self._outward) > most:
            self._end(next(iter(next(filter(None, self._lines)))), "evicted")

    def _schedule(self, due: float) -> None:
        """Have `_forget_silent` called at `due` at the latest."""
        if self._timer is None or self._timer.due > due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._box.call_later(due - self._box.now(), self._forget_silent)

    def _forget_silent(self) -> None:
        """End what was silent too long; come back when it is the next one's turn."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._box.now()
        for line, sessions in zip(Line, self._lines, strict=True):
            while sessions:
                oldest = next(iter(sessions))
                due = oldest.last_used + self._timeouts[line]
                if due > now:
                    self._schedule(due)
                    break
                self._end(oldest, "timed-out")


def _next_line(session: Session, packet: Packet) -> Line:
    """Where a TCP session belongs after a segment (RFC 5382 section 5)."""
    flags = packet.flags
    if flags & RST:
        session.ended = _BOTH
    elif flags & FIN:
        session.ended |= 1 << packet.side
    elif flags & (SYN | ACK) == SYN and session.ended == _BOTH and packet.side is session.opener:
        session.ended = 0  # it makes use of its port again
        session.answered = False
    if session.ended == _BOTH:
        return Line.TRANSITORY
    if session.line is Line.TCP:
        return Line.TCP
    if packet.side is not session.opener:
        session.answered = True
        return Line.TRANSITORY
    return Line.TCP if session.answered and not flags & SYN else Line.TRANSITORY
