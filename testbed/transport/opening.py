"""A TCP connection up to the moment when both SYNs have arrived, and what it puts out.

Positions count from the first byte of data, in both directions, and do not wrap; the SYN stands
before position 0, the FIN behind the last byte.
"""

from __future__ import annotations

import errno
import struct
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias

from testbed.transport.clock import Appointment, Timekeeper
from testbed.transport.congestion import Congestion, initial_window
from testbed.transport.keepalive import Keepalive
from testbed.transport.receiver import Receiver
from testbed.transport.sender import Sender
from testbed.transport.settings import (
    LARGEST_WINDOW,
    TIMESTAMPS_SIZE,
    Agreement,
    TcpSettings,
    version_of,
)
from testbed.transport.timeout import RetransmissionTimeout
from testbed.wire.craft import reset, tcp_segment
from testbed.wire.flags import ACK, PSH, RST, SYN
from testbed.wire.options import (
    LEAST_MSS,
    NOP,
    PLAIN_TIMESTAMPS,
    SACK,
    HandshakeOptions,
    mss_of,
)
from testbed.wire.packet import Packet
from testbed.wire.sequence import MODULUS

Phase: TypeAlias = Literal["closed", "syn-sent", "syn-received", "synchronized", "time-wait"]

_LEAST_TIMEOUT: Final = 1.0  # seconds (RFC 6298 section 2.4)
_TRIES_TO_OPEN: Final = 6
_MOST_BLOCKS: Final = 3  # of SACK, beside timestamps

_u32_pair = struct.Struct("!II")


class Parts(NamedTuple):
    """The classes that a connection is made of."""

    sender: type[Sender]
    receiver: type[Receiver]
    congestion: type[Congestion]
    timeout: type[RetransmissionTimeout]


class Surrounding(NamedTuple):
    """What all connections of a host share.

    random: a number with so many bits. transmit: puts a packet out. counters: of all of them.
    """

    clock: Timekeeper
    transmit: Callable[[bytearray], None]
    random: Callable[[int], int]
    mtu: int
    parts: Parts
    counters: Counter[str]


class TcpOpening:
    """The opening of a connection, active or passive, and the segments that are sent in all of it.

    key: of the segments that it sends. changed: is called when a program may go on.

    error: the errno by which it ended, 0 for none.
    """

    def __init__(
        self, host: Surrounding, settings: TcpSettings, key: bytes, changed: Callable[[], None]
    ) -> None:
        self.host = host
        self.settings = settings
        self.key = key
        self.changed = changed
        self.phase: Phase = "closed"
        self.error = 0
        self._first = (host.random(32) + 1) % MODULUS  # of our bytes
        self._their_first = 0
        self._shift = host.random(32)  # of our time stamps
        self._recent = 0  # the newest of theirs [TS.Recent]
        self._acknowledged = 0  # up to where theirs was, by the last segment
        self._agreed: Agreement | None = None
        self._timeout = host.parts.timeout(_LEAST_TIMEOUT)
        self._receiver = host.parts.receiver(settings.receive_buffer)
        self._sender: Sender | None = None
        self._inbox = bytearray()
        self._told = self._receiver.edge
        self._largest = 1  # payload seen
        self._pending = 0  # bytes taken that are not acknowledged
        self._delayed: Appointment | None = None
        self._opening: Appointment | None = None
        self._tries = 0
        self._knocks = 0  # SYNs sent
        self._knocked_at = 0.0
        self._identification = host.random(16)
        self._objected_at = -float("inf")
        self._keepalive: Keepalive | None = None
        self._closed = False  # whether the program has gone
        self._closes_second = False  # whether the other end had closed when we did
        self._last: Appointment | None = None

    def answer(self, packet: Packet) -> None:
        """Take in the SYN of who opens, and answer it."""
        self.phase = "syn-received"
        self._meet(packet)
        self._knock()

    def _meet(self, packet: Packet) -> None:
        theirs = HandshakeOptions.of(packet.options())
        self._their_first = (packet.seq + 1) % MODULUS
        self._agreed = Agreement.of(self.settings, theirs, version_of(self.key))
        self._recent = theirs.timestamps[0] if theirs.timestamps else 0
        edge = min(self.settings.receive_buffer, LARGEST_WINDOW << self._agreed.own_scale)
        self._receiver = self.host.parts.receiver(edge)

    def _knock(self) -> None:
        """Send the SYN, alone or with an ACK, again and again."""
        offer = self.settings.offer(self._largest_mss, (self._stamp(), self._recent))
        flags, ack = SYN, 0
        if self._agreed is not None:
            flags, ack = SYN | ACK, self._their_first
            offer = HandshakeOptions(
                mss=offer.mss,
                window_scale=offer.window_scale if self._agreed.scaling else None,
                sack=self._agreed.sack,
                timestamps=offer.timestamps if self._agreed.timestamps else None,
            )
        window = min(self._receiver.edge, LARGEST_WINDOW)
        self._told = window
        self._knocks += 1
        self._knocked_at = self.host.clock.now()
        self.host.transmit(
            tcp_segment(
                self.key,
                seq=self._first - 1,
                ack=ack,
                flags=flags,
                window=window,
                options=offer.encode(),
                identification=self._next_identification(),
            )
        )
        self._await_answer()

    def _await_answer(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        self._opening = self.host.clock.call_later(self._timeout.seconds, self._knock_again)

    def _knock_again(self) -> None:
        self._opening = None
        self._tries += 1
        self._timeout.back_off()
        if self._tries > _TRIES_TO_OPEN:
            self._end(errno.ETIMEDOUT)
        else:
            self._knock()

    def _establish(self, edge: int) -> None:
        """Both SYNs have arrived. edge: the other end's window."""
        assert self._agreed is not None
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        parts = self.host.parts
        mss = max(self._segment_size(self._agreed), LEAST_MSS)
        self._timeout.restart()
        first_window = self._initial_window(mss)
        if self._tries:
            first_window = mss  # RFC 5681 section 3.1
            self._timeout.distrust()
        elif self._knocks == 1:  # Karn's algorithm (RFC 6298 section 3)
            self._timeout.measure(self.host.clock.now() - self._knocked_at)
        self._sender = parts.sender(
            self.host.clock,
            self.host.counters,
            parts.congestion(mss, first_window),
            self._timeout,
            lambda position, payload, flags: self._emit(
                position, ACK | flags | (PSH if payload else 0), payload
            ),
            self._give_up,
            mss=mss,
            edge=edge,
        )
        self.phase = "synchronized"
        self.keep_alive()
        self.changed()

    def hear_answer(self, packet: Packet) -> None:
        """RFC 9293 section 3.10.7.3."""
        flags = packet.flags
        if flags & ACK and packet.ack != self._first:
            if not flags & RST:
                self.host.transmit(reset(self.key, seq=packet.ack))
            return
        if flags & RST:
            if flags & ACK:
                self._end(errno.ECONNREFUSED)
            return
        if not flags & SYN:
            return
        self._meet(packet)
        if flags & ACK:
            self._establish(packet.window)  # of a SYN: not scaled
            self._acknowledge()
        else:
            self.phase = "syn-received"  # both open at once
            self._knock()

    @property
    def _largest_mss(self) -> int:
        return mss_of(self.host.mtu, version_of(self.key))

    def _segment_size(self, agreed: Agreement) -> int:
        """The most payload of a segment, its options deducted (RFC 9293 section 3.7.1)."""
        options = TIMESTAMPS_SIZE if agreed.timestamps else 0
        return min(agreed.mss, self._largest_mss) - options

    def _initial_window(self, mss: int) -> int:
        """Bytes."""
        return initial_window(mss)

    def keep_alive(self) -> None:
        """Probe a silent end, where that is wanted."""

    def _give_up(self) -> None:
        """The other end does not answer any more."""
        self._reset()
        self._end(errno.ETIMEDOUT)

    # What is sent

    @property
    def _nxt(self) -> int:
        return 0 if self._sender is None else self._sender.nxt

    def _stamp(self) -> int:
        """Our clock in milliseconds."""
        return (self._shift + round(self.host.clock.now() * 1000)) % MODULUS

    def _next_identification(self) -> int:
        """Of the next packet: one more, so that a capture tells a packet from several."""
        self._identification = (self._identification + 1) & 0xFFFF
        return self._identification

    def _acknowledge(self) -> None:
        if self.phase in ("synchronized", "time-wait"):
            self._emit(self._nxt, ACK, sack=True)

    def _emit(self, position: int, flags: int, payload: bytes = b"", *, sack: bool = False) -> None:
        assert self._agreed is not None
        receiver, first = self._receiver, self._their_first
        if self._delayed is not None:
            self._delayed.cancel()
            self._delayed = None
        self._pending = 0
        self._told, self._acknowledged = receiver.edge, receiver.taken
        options = b""
        if self._agreed.timestamps:
            options = PLAIN_TIMESTAMPS + _u32_pair.pack(self._stamp(), self._recent)
        if sack and self._agreed.sack and (blocks := receiver.blocks()[:_MOST_BLOCKS]):
            edges = [
                _u32_pair.pack((first + left) % MODULUS, (first + right) % MODULUS)
                for left, right in blocks
            ]
            options += bytes((NOP, NOP, SACK, 2 + 8 * len(blocks))) + b"".join(edges)
        self.host.transmit(
            tcp_segment(
                self.key,
                seq=self._first + position,
                ack=first + receiver.taken,
                flags=flags,
                window=min(receiver.window >> self._agreed.own_scale, LARGEST_WINDOW),
                options=options,
                payload=payload,
                identification=self._next_identification(),
            )
        )

    def _reset(self) -> None:
        self._emit(self._nxt, RST | ACK)

    def _end(self, error: int) -> None:
        """Forget all, and tell the program."""
        self.phase = "closed"
        self.error = self.error or error
        if self._sender is not None:
            self._sender.stop()
        if self._keepalive is not None:
            self._keepalive.stop()
        for appointment in (self._delayed, self._opening, self._last):
            if appointment is not None:
                appointment.cancel()
        self._delayed = self._opening = self._last = None
        self.changed()
