"""The splitting accelerator: acknowledges for the other end, and does its work behind its back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

import msgspec

from testbed.middlebox import (
    ABSORB,
    PASS,
    Box,
    Count,
    Duration,
    Function,
    TcpFlow,
    TcpTable,
    Verdict,
    drop,
    function,
    tcp_phases,
)
from testbed.middlebox.functions.pep.relay import Relay
from testbed.wire.craft import reset, tcp_segment
from testbed.wire.edit import blank_option
from testbed.wire.flags import ACK, PSH, RST, SYN, opens_connection
from testbed.wire.ip import TCP
from testbed.wire.options import HandshakeOptions, option_name
from testbed.wire.packet import Packet, Side, reverse_key
from testbed.wire.sequence import MODULUS

_TAKEN_AWAY = frozenset({"timestamps", "tfo", "mptcp", "unknown"})
_BAD_CHECKSUM = drop("bad-checksum")
_UNBELIEVABLE = drop("reset-outside-window")
_LARGEST_WINDOW = 0xFFFF

Bytes = Annotated[int, msgspec.Meta(ge=4096, le=1 << 28, extra={"unit": "size"})]


@dataclass(eq=False, slots=True, kw_only=True)
class _Split(TcpFlow):
    """keys, firsts, scales, relays: of the outside and the inside as senders. A scale is None
    where none was named; relays are there once both ends have shown their numbers."""

    ways: tuple[bytes, bytes]
    firsts: list[int] = field(default_factory=lambda: [0, 0])
    shifts: list[int | None] = field(default_factory=lambda: [None, None])
    windows: list[int] = field(default_factory=lambda: [0, 0])
    told: list[int] = field(default_factory=lambda: [0, 0])
    relays: tuple[Relay, Relay] | None = None

    def scale(self, side: Side) -> int:
        mine, others = self.shifts[side], self.shifts[side.other]
        return 0 if mine is None or others is None else mine


@function("pep")
class Pep(Function):
    """Splits connections in two, each with its own acknowledgements and repetitions."""

    protocols = frozenset({TCP})
    drains = True

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """How much it takes upon itself. All can be set while traffic runs.

        buffer: bytes kept per direction of a connection, for new connections; they are
        acknowledged to their sender, and its window is what is left of the buffer.
        in_flight: the most bytes under way to a receiver, within its window. Losses do not
        lower it: that is what makes it fast on a lossy path, and unfair.
        connection_limit: connections split; beyond, the least recently used one is forgotten (and
        breaks).
        idle_timeout: seconds after which a silent connection is forgotten.
        """

        buffer: Bytes = 262_144
        in_flight: Bytes = 1_048_576
        connection_limit: Count = 1024
        idle_timeout: Duration = 7440.0

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self._flows: TcpTable[_Split] = TcpTable(
            box,
            tcp_phases(options.idle_timeout),
            limit=options.connection_limit,
            counters=self.counters,
            on_end=self._stop,
        )

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._flows.configure(tcp_phases(options.idle_timeout), limit=options.connection_limit)

    def gauges(self) -> dict[str, int]:
        return {"now-split": len(self._flows)}

    def packet(self, packet: Packet) -> Verdict:
        flags = packet.flags
        flow = self._flows.find(packet)
        if flow is None:
            if not self.enabled or not opens_connection(flags):
                return PASS
            flow = _Split(ways=_keys(packet))
            self._flows.begin(flow, packet)
        if not packet.checksum_is_right():
            return _BAD_CHECKSUM
        self._flows.saw(flow, packet)
        if flow.relays is None:
            return self._open(flow, packet)
        if flags & RST:
            return self._reset(flow, flow.relays, packet)
        if flags & SYN:  # our acknowledgement of the SYN/ACK was lost
            self._acknowledge(flow, packet.side)
            return ABSORB
        self._exchange(flow, flow.relays, packet)
        return ABSORB

    # The handshake

    def _open(self, flow: _Split, packet: Packet) -> Verdict:
        """The handshake is between the ends, but for options that would get in the way."""
        flags, side = packet.flags, packet.side
        if flags & RST:
            self._forget(flow)
            return PASS
        if flags & SYN:
            if bool(flags & ACK) is (side is flow.opener):
                self._forget(flow)  # both have opened at once: they are left alone
                return PASS
            flow.firsts[side] = (packet.seq + 1) % MODULUS
            flow.shifts[side] = HandshakeOptions.of(packet.options()).window_scale
            flow.windows[side] = packet.window
            for kind, at, size in packet.walk_options():
                if option_name(packet.buffer, kind, at, size) in _TAKEN_AWAY:
                    blank_option(packet, at, size)
            return PASS
        if side is not flow.opener or not flags & ACK or not flow.firsts[side.other]:
            return PASS
        self.counters["split"] += 1
        flow.relays = (self._relay(flow, Side.OUTSIDE), self._relay(flow, Side.INSIDE))
        self._acknowledge(flow, side.other)
        self._exchange(flow, flow.relays, packet)
        return ABSORB

    def _relay(self, flow: _Split, sender: Side) -> Relay:
        relay = Relay(
            self.box,
            self.counters,
            flow.firsts[sender],
            self.options.buffer,
            partial(self._send, flow, sender),
            partial(self._give_up, flow),
        )
        relay.edge = flow.windows[sender.other]  # a SYN's window is not scaled
        return relay

    # Afterwards

    def _exchange(self, flow: _Split, relays: tuple[Relay, Relay], packet: Packet) -> None:
        side = packet.side
        ours, theirs = relays[side], relays[side.other]
        theirs.hear(packet, flow.scale(side))
        tell = ours.take(packet)
        for relay in (ours, theirs):
            relay.push(self.options.in_flight)
        if tell:
            self._acknowledge(flow, side)
        room = theirs.window - flow.told[side.other]
        if room > theirs.buffer // 2:  # it was told of much less
            self._acknowledge(flow, side.other)

    def _send(self, flow: _Split, sender: Side, position: int, payload: bytes, flags: int) -> None:
        """A segment of `sender` for its receiver."""
        self._emit(flow, sender, position, ACK | flags | (PSH if payload else 0), payload)

    def _acknowledge(self, flow: _Split, side: Side) -> None:
        """Tell `side` what is taken over."""
        assert flow.relays is not None
        relays = flow.relays
        self.counters["acknowledged"] += 1
        self._emit(flow, side.other, relays[side.other].sent, ACK, b"", relays[side].blocks())

    def _emit(
        self,
        flow: _Split,
        sender: Side,
        position: int,
        flags: int,
        payload: bytes,
        options: bytes = b"",
    ) -> None:
        assert flow.relays is not None
        receiver = flow.relays[sender.other]
        flow.told[sender.other] = receiver.window
        self.box.emit(
            tcp_segment(
                flow.ways[sender],
                seq=flow.firsts[sender] + position,
                ack=receiver.acknowledgement,
                flags=flags,
                window=min(receiver.window >> flow.scale(sender), _LARGEST_WINDOW),
                options=options,
                payload=payload,
            ),
            sender.other,
        )

    # The end

    def _reset(self, flow: _Split, relays: tuple[Relay, Relay], packet: Packet) -> Verdict:
        """The other end gets one that it must believe, at what it expects next."""
        side = packet.side
        if not relays[side].expects(packet.seq):
            return _UNBELIEVABLE
        expected = flow.firsts[side] + relays[side].acked
        self.box.emit(reset(flow.ways[side], seq=expected), side.other)
        self.counters["reset"] += 1
        self._forget(flow)
        return ABSORB

    def _give_up(self, flow: _Split) -> None:
        self.counters["given-up"] += 1
        self._forget(flow)

    def _forget(self, flow: _Split) -> None:
        self._flows.end(flow, "forgotten")

    def _stop(self, flow: _Split, cause: str) -> None:
        for relay in flow.relays or ():
            relay.stop()


def _keys(packet: Packet) -> tuple[bytes, bytes]:
    """The keys of packets from outside and from inside."""
    key, back = packet.key, reverse_key(packet.key)
    return (key, back) if packet.side is Side.OUTSIDE else (back, key)
