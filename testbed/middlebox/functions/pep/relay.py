"""One direction of a split connection: data taken from its sender, and seen to its receiver.

Positions are distances from the sender's first byte, and do not wrap.
"""

from __future__ import annotations

import struct
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from testbed.middlebox import Box, Timer
from testbed.wire.flags import ACK, FIN
from testbed.wire.options import NOP, SACK, sack_blocks
from testbed.wire.packet import Packet
from testbed.wire.sequence import MODULUS

_HALF: Final = MODULUS // 2
_LEAST_WAIT: Final = 0.2  # seconds before a repetition, as Linux's TCP_RTO_MIN
_MOST_WAIT: Final = 10.0
_FIRST_WAIT: Final = 1.0  # RFC 6298 section 2.1
_TRIES: Final = 10
_BURST: Final = 10  # segments repeated at once after a time-out
_MOST_BLOCKS: Final = 4
_u32_pair = struct.Struct("!II")

Send = Callable[[int, bytes, int], None]
"""Puts a segment out to the receiver: position, payload, flags beside ACK."""


@dataclass(eq=False, slots=True)
class _Piece:
    """A payload, or a FIN without one. sent: when last, None before the first time."""

    start: int
    payload: bytes
    flags: int
    sent: float | None = None
    repeated: bool = False
    arrived: bool = False

    @property
    def end(self) -> int:
        return self.start + len(self.payload) + (self.flags & FIN)


class Relay:
    """Keeps at most `buffer` bytes. first: the sender's first sequence number after its SYN.

    taken: the position up to which all is here. acked: up to which the receiver has it. edge: how
    far its window reaches. give_up is called when the receiver does not answer any more.
    """

    def __init__(
        self,
        box: Box,
        counters: Counter[str],
        first: int,
        buffer: int,
        send: Send,
        give_up: Callable[[], None],
    ) -> None:
        self._box = box
        self._counters = counters
        self._send = send
        self._give_up = give_up
        self._first = first
        self.buffer = buffer
        self.taken = self.acked = self.sent = self.edge = 0
        self._fin: int | None = None
        self._early: dict[int, bytes] = {}
        self._waiting: deque[_Piece] = deque()
        self._flight: deque[_Piece] = deque()
        self._timer: Timer | None = None
        self._round_trip: float | None = None
        self._tries = 0
        self._lost_before = 0.0
        self._furthest = 0

    # The sender's side

    def take(self, packet: Packet) -> bool:
        """Take the data of a segment; whether its sender is to be told what is here."""
        start = self._position(packet.seq, self.taken)
        payload = bytes(packet.buffer[packet.payload : packet.end])
        if packet.flags & FIN and self._fin is None:
            self._fin = start + len(payload)
        news = bool(payload) or bool(packet.flags & FIN) or start < self.taken
        if start + len(payload) <= self.acked + self.buffer:
            self._keep(start, payload)
        if self._fin == self.taken:
            self._waiting.append(_Piece(self.taken, b"", FIN))
            self.taken += 1
        return news

    def _keep(self, start: int, payload: bytes) -> None:
        if start > self.taken:
            if len(payload) > len(self._early.get(start, b"")):
                self._early[start] = payload
            return
        self._append(start, payload)
        for early in sorted(self._early):
            if early > self.taken:
                break
            self._append(early, self._early.pop(early))

    def _append(self, start: int, payload: bytes) -> None:
        fresh = payload[self.taken - start :]
        if fresh and self._fin is not None:
            fresh = fresh[: max(self._fin - self.taken, 0)]
        if fresh:
            self._waiting.append(_Piece(self.taken, fresh, 0))
            self.taken += len(fresh)

    def expects(self, seq: int) -> bool:
        """Whether a number lies within the window that the sender was told."""
        return 0 <= self._position(seq, self.taken) - self.taken <= self.window

    @property
    def acknowledgement(self) -> int:
        """The number for the sender: what is taken over is acknowledged, its FIN included."""
        return (self._first + self.taken) % MODULUS

    @property
    def window(self) -> int:
        """What the sender may still send, in bytes."""
        return max(self.acked + self.buffer - self.taken, 0)

    def blocks(self) -> bytes:
        """A SACK option for the sender, of what has come too early."""
        merged: list[list[int]] = []
        for start in sorted(self._early):
            end = start + len(self._early[start])
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
        del merged[_MOST_BLOCKS:]
        if not merged:
            return b""
        edges = b"".join(
            _u32_pair.pack((self._first + start) % MODULUS, (self._first + end) % MODULUS)
            for start, end in merged
        )
        return bytes((NOP, NOP, SACK, 2 + len(edges))) + edges

    # The receiver's side

    def hear(self, packet: Packet, scale: int) -> None:
        """Take in what the receiver acknowledges; `scale` is that of its windows."""
        acked = self._position(packet.ack, self.acked)
        if not packet.flags & ACK or not self.acked <= acked <= self.sent:
            return
        progress = acked > self.acked
        self.acked = acked
        self.edge = max(self.edge, acked + (packet.window << scale))
        now = self._box.now()
        while self._flight and self._flight[0].end <= acked:
            piece = self._flight.popleft()
            if not piece.repeated and piece.sent is not None:
                self._measure(now - piece.sent)
        self._hear_blocks(packet)
        if progress or not self._flight:  # who answers a probe is there, however long it takes
            self._tries = 0
        if progress:
            self._set_timer()
        self._repair(now)

    def _hear_blocks(self, packet: Packet) -> None:
        for kind, at, size in packet.walk_options():
            if kind != SACK:
                continue
            for block in sack_blocks(packet.buffer, at, size):
                left, right = (self._position(edge, self.acked) for edge in block)
                self._furthest = max(self._furthest, min(right, self.sent))
                for piece in self._flight:
                    if left <= piece.start and piece.end <= right:
                        piece.arrived = True

    def _measure(self, sample: float) -> None:
        old = self._round_trip
        self._round_trip = sample if old is None else old + (sample - old) / 8

    def _repair(self, now: float) -> None:
        """Repeat what was overtaken a round trip ago, and some of what timed out."""
        patience = 1.25 * (self._round_trip or _FIRST_WAIT)
        budget = _BURST
        for piece in self._flight:
            if piece.arrived or piece.sent is None:
                continue
            overtaken = piece.end <= self._furthest and (
                not piece.repeated or now - piece.sent > patience
            )
            if overtaken or (piece.sent < self._lost_before and budget):
                budget -= not overtaken
                self._repeat(piece)

    def _repeat(self, piece: _Piece) -> None:
        self._counters["repeated"] += 1
        piece.repeated = True
        piece.sent = self._box.now()
        self._send(piece.start, piece.payload, piece.flags)

    def push(self, most: int) -> None:
        """Send on what the receiver's window allows, with at most `most` bytes under way."""
        while self._waiting:
            piece = self._waiting[0]
            inside = piece.end - (piece.flags & FIN) <= self.edge
            if not inside or self.sent - self.acked >= most:
                break
            self._waiting.popleft()
            self._flight.append(piece)
            self.sent = piece.end
            piece.sent = self._box.now()
            self._send(piece.start, piece.payload, piece.flags)
        if self._timer is None:
            self._set_timer()

    # Time

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self.stop()
        if self._flight or self._waiting:
            base = _FIRST_WAIT if self._round_trip is None else 2 * self._round_trip + _LEAST_WAIT
            wait = min(base * 2**self._tries, _MOST_WAIT)
            self._timer = self._box.call_later(wait, self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        self._tries += 1
        if self._tries > _TRIES:
            self._give_up()
            return
        if self._flight:
            self._lost_before = self._box.now()
            self._repair(self._lost_before)
        else:  # the window is closed: what is its size now? (RFC 9293 section 3.8.6.1)
            self._send(self.acked - 1, b"", 0)
        self._set_timer()

    def _position(self, number: int, near: int) -> int:
        return near + (number - self._first - near + _HALF) % MODULUS - _HALF
