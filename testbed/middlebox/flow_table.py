"""What functions remember of flows: bounded in number, forgotten in time, found by any of its keys.

`FlowTable` keeps any kind of flow. `TcpTable` also follows TCP connections from the handshake to
the end, and tells when a port is used again.
"""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Generic, NamedTuple, TypeVar

from testbed.middlebox.function import Box
from testbed.middlebox.timers import Timer
from testbed.wire.flags import ACK, FIN, RST, SYN, opens_connection
from testbed.wire.options import MAX_WINDOW_SCALE, HandshakeOptions
from testbed.wire.packet import Packet, Side, reverse_key
from testbed.wire.sequence import MODULUS, is_after

EVICTED: Final = "evicted"
IDLE: Final = "idle"
LINGERED: Final = "lingered"
REUSED: Final = "reused"

LINGER: Final = 60.0
"""Seconds for which a closed connection is still known, as TIME-WAIT in Linux."""

_FOLLOWED: Final = SYN | FIN | RST | ACK  # of these, plain segments have ACK only
_BOTH_FINS: Final = 0b011
_RESET: Final = 0b100
_FIRST_WINDOW: Final = 1 << 16  # how far a host may go before it has heard of a window
_LARGEST_SEGMENT: Final = 1 << 16
_header = struct.Struct("!IIxBH")  # sequence number, acknowledgement, flags, window


class Phase(NamedTuple):
    """Flows that are kept under the same conditions.

    timeout: seconds of silence after which one ends; None: it does not end by itself.
    limit: the most that there may be; beyond, the one that was silent longest makes room.
    cause: what is told of one that has timed out.
    """

    timeout: float | None = None
    limit: int | None = None
    cause: str = IDLE


@dataclass(eq=False, slots=True, kw_only=True)
class Flow:
    """One flow; functions add their own fields, the table fills in these.

    keys: what it is found by.
    phase: the number of its phase.
    last_used: when, in seconds of the box's clock.
    """

    keys: tuple[Hashable, ...] = ()
    phase: int = 0
    last_used: float = 0.0


F = TypeVar("F", bound=Flow)


class FlowTable(Generic[F]):
    """Flows in one or more phases, of which the first ones make room first.

    limit: the most flows in all phases together.
    counters: where flows that were evicted or idle are counted, under `evicted` and `idle`.
    evicted: another name for the first of these.
    on_end: is told of each flow that has ended without `remove`, after it was taken out, and of
    the cause: `evicted` or that of its phase.
    """

    def __init__(
        self,
        box: Box,
        phases: Sequence[Phase] = (Phase(),),
        *,
        limit: int | None = None,
        counters: Counter[str] | None = None,
        evicted: str = EVICTED,
        on_end: Callable[[F, str], None] | None = None,
    ) -> None:
        self._now = box.now
        self._call_later = box.call_later
        self._phases = phases
        self._limit = limit
        self._counters = counters
        self._names = {EVICTED: evicted, IDLE: IDLE}
        self._on_end = on_end
        self._by_key: dict[Hashable, F] = {}
        self._rows: list[OrderedDict[F, None]] = [OrderedDict() for _ in phases]
        self._timer: Timer | None = None
        self.get = self._by_key.get  # bound once: it is called for every packet

    def __len__(self) -> int:
        return sum(map(len, self._rows))

    def count(self, phase: int) -> int:
        """How many flows are in a phase."""
        return len(self._rows[phase])

    def oldest(self) -> F | None:
        """The flow that makes room first."""
        return next((next(iter(row)) for row in self._rows if row), None)

    def configure(self, phases: Sequence[Phase], *, limit: int | None = None) -> None:
        """Other timeouts and limits hold from now on; the number of phases stays."""
        self._phases, self._limit = phases, limit
        for phase in range(len(phases)):
            self._make_room(phase, 0)
        self._sweep()

    def add(self, flow: F, *keys: Hashable, phase: int = 0) -> None:
        """Put a flow in as just used. Raises KeyError when a key is taken."""
        for key in keys:
            if key in self._by_key:
                raise KeyError(key)
        flow.keys, flow.last_used = keys, self._now()
        self._make_room(phase, 1)
        for key in keys:
            self._by_key[key] = flow
        self._enter(flow, phase)

    def use(self, flow: F) -> None:
        """The flow is not silent: its time begins anew."""
        flow.last_used = self._now()
        self._rows[flow.phase].move_to_end(flow)

    def move(self, flow: F, phase: int) -> None:
        """Put a flow into another phase, as just used."""
        del self._rows[flow.phase][flow]
        flow.last_used = self._now()
        self._make_room(phase, 1)
        self._enter(flow, phase)

    def remove(self, flow: F) -> None:
        """Forget a flow; harmless when it is not there."""
        if self._rows[flow.phase].pop(flow, self) is not self:
            for key in flow.keys:
                del self._by_key[key]
            if self._timer is not None and not len(self):
                self._timer.cancel()
                self._timer = None

    def end(self, flow: F, cause: str) -> None:
        """Forget a flow, count it where that is asked for, and tell `on_end`."""
        self.remove(flow)
        if self._counters is not None and cause in self._names:
            self._counters[self._names[cause]] += 1
        if self._on_end is not None:
            self._on_end(flow, cause)

    def _enter(self, flow: F, phase: int) -> None:
        flow.phase = phase
        self._rows[phase][flow] = None
        timeout = self._phases[phase].timeout
        if timeout is not None:
            self._schedule(flow.last_used + timeout)

    def _make_room(self, phase: int, more: int) -> None:
        """End flows until there is room for so many more in a phase."""
        row, limit = self._rows[phase], self._phases[phase].limit
        while limit is not None and len(row) + more > limit:
            self.end(next(iter(row)), EVICTED)
        while self._limit is not None and len(self) + more > self._limit:
            oldest = self.oldest()
            if oldest is None:
                return
            self.end(oldest, EVICTED)

    def _schedule(self, due: float) -> None:
        """Have `_sweep` called at `due` at the latest."""
        if self._timer is None or self._timer.due > due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._call_later(due - self._now(), self._sweep)

    def _sweep(self) -> None:
        """End what was silent too long; come back when it is the next one's turn."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._now()
        for phase, row in zip(self._phases, self._rows, strict=True):
            while row and phase.timeout is not None:
                oldest = next(iter(row))
                due = oldest.last_used + phase.timeout
                if due > now:
                    self._schedule(due)
                    break
                self.end(oldest, phase.cause)


class TcpState(IntEnum):
    """How far a connection is, as far as can be told from the path."""

    CLOSED = 0  # both ends have sent a FIN, or one a RST
    OPENING = 1  # the opener has not acknowledged an answer yet
    OPEN = 2


_CLOSED: Final = TcpState.CLOSED  # looked up for every packet, which is slow in an Enum
_OPEN: Final = TcpState.OPEN


@dataclass(eq=False, slots=True, kw_only=True)
class TcpFlow(Flow):
    """One TCP connection; functions add their own fields, the table fills in these.

    opener: the side that has sent the first segment.
    state: as far as can be told.
    answered: whether the other side has sent a SYN.
    established: whether the opener has acknowledged that, now or before the end.
    ended: the sides that have sent a FIN, as bits, and another bit for a RST.
    heard: for each side the part of its newest TCP header from sequence number to window.
    scales: for each side the window scale of its SYN, -1 where that had none, None without SYN.
    """

    opener: Side = Side.OUTSIDE
    state: TcpState = TcpState.OPEN
    answered: bool = False
    established: bool = True
    ended: int = 0
    heard: list[bytearray | None] = field(default_factory=lambda: [None, None])
    scales: list[int | None] = field(default_factory=lambda: [None, None])

    def begin(self, packet: Packet) -> None:
        """Be the connection that a segment begins, or is the first one seen of."""
        opens = opens_connection(packet.flags)
        self.opener = packet.side
        self.state = TcpState.OPENING if opens else TcpState.OPEN
        self.answered = self.established = not opens
        self.ended = 0
        self.heard = [None, None]
        self.scales = [None, None]

    @property
    def closed(self) -> bool:
        return self.state is _CLOSED

    def follow(self, packet: Packet, flags: int) -> None:
        """Take in a segment that may change the state."""
        side = packet.side
        if flags & SYN:
            if opens_connection(flags) and self.closed:
                self.begin(packet)
            if not self.established:  # later ones change nothing (RFC 5961 section 4)
                scale = HandshakeOptions.of(packet.options()).window_scale
                self.scales[side] = -1 if scale is None else scale
            self.answered = self.answered or side is not self.opener
        elif flags & RST:
            self.ended |= _RESET if self.is_credible(packet) else 0
        else:
            self.ended &= ~_RESET  # the reset was not believed (RFC 6146 section 3.5.2.2)
            self.established = self.established or (self.answered and side is self.opener)
            if flags & FIN and self.is_credible(packet):
                self.ended |= 1 << side
        if self.ended & _RESET or self.ended & _BOTH_FINS == _BOTH_FINS:
            self.state = TcpState.CLOSED
        else:
            self.state = TcpState.OPEN if self.established else TcpState.OPENING

    def is_credible(self, packet: Packet) -> bool:
        """Whether its receiver would take a FIN or a RST (RFC 9293 section 3.10.7, RFC 5961).

        It is judged by what the receiver itself has said: whoever forges a sender's segments
        cannot move the receiver's window. Receivers of which nothing was heard take all.
        """
        side = packet.side
        place = packet.seq + packet.end - packet.payload
        receiver, sender = self.heard[side.other], self.heard[side]
        if receiver is None:  # it cannot have accepted more than a first window
            if sender is None:
                return True
            first: int = _header.unpack(sender)[0]
            return (place - first) % MODULUS <= _FIRST_WINDOW
        seq, ack, flags, window = map(int, _header.unpack(receiver))
        if not flags & ACK:  # a SYN: only what acknowledges it counts
            return bool(packet.flags & ACK) and 0 < (packet.ack - seq) % MODULUS <= _FIRST_WINDOW
        return (place - ack) % MODULUS <= window << self._shift(side.other, flags)

    def could_acknowledge(self, packet: Packet) -> bool:
        """Whether an acknowledgement is of what the other side may have sent (RFC 5961 section 5).

        Where nothing was heard of that side, all may be.
        """
        other = self.heard[packet.side.other]
        if other is None:
            return True
        newest: int = _header.unpack(other)[0]
        return not is_after(packet.ack, (newest + _LARGEST_SEGMENT) % MODULUS)

    def _shift(self, side: Side, flags: int) -> int:
        """By how much windows of a side are shifted; where that is unknown, by the most."""
        own, others = self.scales[side], self.scales[side.other]
        if flags & SYN:
            return 0
        if own is None or others is None:
            return MAX_WINDOW_SCALE
        return 0 if own < 0 or others < 0 else own


T = TypeVar("T", bound=TcpFlow)


class TcpTable(FlowTable[T]):
    """TCP connections. phase_of: the phases of those that are closed, opening and open.

    A RST or FIN counts only where its receiver would believe it. Those that are closed linger for
    a while, and end early, with the cause `reused`, when a SYN makes use of their ports.
    """

    def __init__(
        self,
        box: Box,
        phases: Sequence[Phase],
        *,
        phase_of: tuple[int, int, int] = (0, 1, 1),
        limit: int | None = None,
        counters: Counter[str] | None = None,
        evicted: str = EVICTED,
        on_end: Callable[[T, str], None] | None = None,
    ) -> None:
        super().__init__(
            box, phases, limit=limit, counters=counters, evicted=evicted, on_end=on_end
        )
        self._phase_of = phase_of

    def find(self, packet: Packet) -> T | None:
        """The connection of a segment; a SYN that makes use of a closed one's ports has none."""
        flow = self.get(packet.key)
        if flow is not None and flow.state is _CLOSED and packet.flags & (SYN | ACK) == SYN:
            self.end(flow, REUSED)
            return None
        return flow

    def begin(self, flow: T, packet: Packet, *keys: Hashable) -> None:
        """Follow a connection from a segment on, by the keys of both directions or other ones."""
        flow.begin(packet)
        keys = keys or (packet.key, reverse_key(packet.key))
        self.add(flow, *keys, phase=self._phase_of[flow.state])

    def saw(self, flow: T, packet: Packet) -> None:
        """A segment of the connection has come.

        All segments have to be shown with the numbers of one side of the box: a function that
        translates sequence numbers shows those that come from there before, others after.
        """
        buffer, at = packet.buffer, packet.transport
        if buffer[at + 13] & _FOLLOWED == ACK and flow.state is _OPEN:
            flow.heard[packet.side] = buffer[at + 4 : at + 16]
        else:
            self._follow(flow, packet)
        flow.last_used = self._now()
        self._rows[flow.phase].move_to_end(flow)

    def _follow(self, flow: T, packet: Packet) -> None:
        """Take in a segment that may change the state or the phase."""
        flags = packet.flags
        flow.follow(packet, flags)
        phase = self._phase_of[flow.state]
        if phase != flow.phase:
            self.move(flow, phase)
        if flags & (ACK | RST) == ACK or (flags & SYN and flow.state is TcpState.OPENING):
            at = packet.transport
            flow.heard[packet.side] = packet.buffer[at + 4 : at + 16]


def tcp_phases(idle_timeout: float) -> tuple[Phase, Phase]:
    """Of connections that linger when they are closed, and end after silence before."""
    return Phase(LINGER, cause=LINGERED), Phase(idle_timeout)
