"""The splitting accelerator: acknowledges for the other end, and does its work behind its back."""

from __future__ import annotations

import struct
from functools import partial
from typing import Annotated, Final, Literal

import msgspec

from testbed.middlebox import (
    ABSORB,
    INSIDE,
    OUTSIDE,
    PASS,
    Box,
    Count,
    Duration,
    FlowTable,
    Function,
    Packet,
    Side,
    Verdict,
    drop,
    function,
    tcp_phases,
)
from testbed.middlebox.functions.pep.congestion import AsAllowed
from testbed.middlebox.functions.pep.connection import Greeting, Half, Split
from testbed.transport.receiver import Receiver
from testbed.transport.sender import Sender
from testbed.transport.timeout import RetransmissionTimeout
from testbed.wire.craft import reset, tcp_segment
from testbed.wire.edit import blank_option, clear_ecn_flags, overwrite
from testbed.wire.flags import ACK, FIN, PSH, RST, SYN, URG, opens_connection
from testbed.wire.icmp import mtu_told, quoted_segment
from testbed.wire.ip import ICMP, ICMPV6, TCP
from testbed.wire.options import (
    ASSUMED_MSS,
    LEAST_MSS,
    NOP,
    SACK,
    HandshakeOptions,
    mss_of,
    option_name,
    sack_blocks,
)
from testbed.wire.packet import reverse_key
from testbed.wire.sequence import MODULUS, difference

_TAKEN_AWAY: Final = frozenset({"timestamps", "tfo", "mptcp", "unknown"})
_BAD_CHECKSUM: Final = drop("bad-checksum")
_UNBELIEVABLE: Final = drop("reset-outside-window")
_LARGEST_WINDOW: Final = 0xFFFF
_LEAST_TIMEOUT: Final = 0.2  # seconds: TCP_RTO_MIN of Linux
_CLOSED, _IN_USE = 0, 1  # the phases of connections
_u16 = struct.Struct("!H")
_u32 = struct.Struct("!I")

Bytes = Annotated[int, msgspec.Meta(ge=4096, le=1 << 28, extra={"unit": "size"})]


@function("pep")
class Pep(Function):
    """Splits connections in two, each with its own acknowledgements and repetitions."""

    protocols = frozenset({TCP, ICMP, ICMPV6})
    drains = True

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """How much it takes upon itself. All can be set while traffic runs.

        buffer: bytes kept per direction of a connection, for new connections; they are
        acknowledged to their sender, and its window is what is left of the buffer. It is at least
        two of the units in which the ends' window scales count.
        in_flight: the most bytes under way to a receiver, within its window; one segment always may
        be.
        congestion_control: with `none`, losses do not lower what is under way: that is what makes
        it fast on a lossy path, and unfair. `reno` begins with ten segments and obeys RFC 5681.
        connection_limit: connections split; beyond, the least recently used one is forgotten (and
        breaks).
        idle_timeout: seconds after which a silent connection is forgotten.
        """

        buffer: Bytes = 262_144
        in_flight: Bytes = 1_048_576
        congestion_control: Literal["none", "reno"] = "none"
        connection_limit: Count = 1024
        idle_timeout: Duration = 7440.0

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self._flows: FlowTable[Split] = FlowTable(
            box,
            tcp_phases(options.idle_timeout),
            limit=options.connection_limit,
            counters=self.counters,
            on_end=_stop,
        )

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._flows.configure(tcp_phases(options.idle_timeout), limit=options.connection_limit)

    def gauges(self) -> dict[str, int]:
        return {"now-split": len(self._flows)}

    def packet(self, packet: Packet) -> Verdict:
        if packet.protocol != TCP:
            return self._error(packet)
        flow = self._flows.get(packet.key)
        opens = opens_connection(packet.flags)
        if flow is not None and opens and flow.ends and flow.ends[packet.side].finished:
            self._use_again(flow, flow.ends, packet.side)
            flow = None
        if flow is None:
            if not self.enabled or not opens:
                return PASS
            flow = Split(opener=packet.side, buffer=self.options.buffer)
            self._flows.add(flow, packet.key, reverse_key(packet.key), phase=_IN_USE)
        if not packet.checksum_is_right():
            return _BAD_CHECKSUM
        self._flows.use(flow)
        if flow.ends is None:
            return self._open(flow, packet)
        return self._exchange(flow, flow.ends, packet)

    # The handshake

    def _open(self, flow: Split, packet: Packet) -> Verdict:
        """The handshake is between the ends, but for options that would get in the way."""
        flags, side = packet.flags, packet.side
        if flags & SYN and not flags & RST:
            if bool(flags & ACK) is (side is flow.opener):
                self._flows.remove(flow)  # both have opened at once: they are left alone
                return PASS
            self._greet(flow, packet)
            return PASS
        mine, others = flow.greetings[side], flow.greetings[side.other]
        if flags & RST or mine is None or others is None:
            self._flows.remove(flow)
            return PASS
        if side is not flow.opener or not flags & ACK:
            return PASS
        if (packet.seq, packet.ack) != (mine.first, others.first):
            self._flows.remove(flow)  # something has passed already: too late
            return PASS
        self.counters["split"] += 1
        flow.sack = mine.options.sack and others.options.sack
        flow.buffer = max(flow.buffer, 2 << max(_scales(mine.options, others.options)))
        ends = self._end(flow, packet, OUTSIDE), self._end(flow, packet, INSIDE)
        flow.ends = ends
        self._acknowledge(flow, ends, side.other)
        return self._exchange(flow, ends, packet)

    def _greet(self, flow: Split, packet: Packet) -> None:
        clear_ecn_flags(packet)  # each half would have to answer marks, and to obey the answers
        options = HandshakeOptions.of(packet.options())
        first = (packet.seq + 1) % MODULUS
        flow.greetings[packet.side] = Greeting(first, packet.window, options)
        for kind, at, size in packet.walk_options():
            if option_name(packet.buffer, kind, at, size) in _TAKEN_AWAY:
                blank_option(packet, at, size)
        if packet.window > flow.buffer:  # no more is promised than there is room for
            overwrite(packet, packet.transport + 14, _u16.pack(flow.buffer))

    def _end(self, flow: Split, packet: Packet, side: Side) -> Half:
        mine, others = flow.greetings[side], flow.greetings[side.other]
        assert mine is not None and others is not None
        version = packet.version
        named = min(mine.options.mss or ASSUMED_MSS[version], mss_of(self.box.mtu, version))
        mss = max(named, LEAST_MSS)
        return Half(
            key=packet.key if packet.side is side else reverse_key(packet.key),
            first=mine.first,
            scale=_scales(mine.options, others.options)[0],
            receiver=Receiver(flow.buffer),
            sender=Sender(
                self.box,
                self.counters,
                AsAllowed(mss, lambda: self.options),
                RetransmissionTimeout(_LEAST_TIMEOUT),
                partial(self._send, flow, side),
                partial(self._give_up, flow),
                mss=mss,
                edge=mine.window,  # of a SYN: not scaled
            ),
        )

    # Segments

    def _exchange(self, flow: Split, ends: tuple[Half, Half], packet: Packet) -> Verdict:
        """Take in a segment, in the order of RFC 9293 section 3.10.7.4."""
        flags, side = packet.flags, packet.side
        end, peer = ends[side], ends[side.other]
        size, fin = packet.end - packet.payload, bool(flags & FIN)
        taken = end.receiver.taken
        start = taken + difference(packet.seq, (end.first + taken) % MODULUS)
        if flags & RST:
            return self._reset(flow, ends, side, start)
        overtaken = not (size or fin) and taken - flow.buffer <= start < taken - 1
        if flags & SYN or not (overtaken or end.receiver.accepts(start, size + fin)):
            self._acknowledge(flow, ends, side)
            return ABSORB
        if not flags & ACK:
            return ABSORB
        una = end.sender.una
        position = una + difference(packet.ack, (peer.first + una) % MODULUS)
        if position > end.sender.nxt:  # of what was not sent
            self._acknowledge(flow, ends, side)
            return ABSORB
        if position >= una:
            blocks = self._blocks(packet, peer.first, una) if flow.sack else ()
            bare = not (size or fin)
            end.sender.hear(position, packet.window << end.scale, blocks, bare=bare)
            self._open_window(flow, ends, side.other)
        if size or fin:
            if flags & URG:
                end.urgent = max(end.urgent, start + _urgent_pointer(packet))
            payload = bytes(packet.buffer[packet.payload : packet.end])
            peer.sender.append(end.receiver.take(start, payload, fin))
            if end.receiver.finished:
                peer.sender.finish()
            peer.sender.push()
            self._acknowledge(flow, ends, side)
        if ends[0].finished and ends[1].finished and flow.phase == _IN_USE:
            self._flows.move(flow, _CLOSED)
        return ABSORB

    def _blocks(self, packet: Packet, first: int, una: int) -> list[tuple[int, int]]:
        base = (first + una) % MODULUS
        return [
            (una + difference(left, base), una + difference(right, base))
            for kind, at, size in packet.walk_options()
            if kind == SACK
            for left, right in sack_blocks(packet.buffer, at, size)
        ]

    def _open_window(self, flow: Split, ends: tuple[Half, Half], side: Side) -> None:
        """Give an end the room that the other one has made (RFC 9293 section 3.8.6.2.2)."""
        end, sender = ends[side], ends[side.other].sender
        edge = sender.una + flow.buffer
        step = min(sender.mss, flow.buffer // 2)
        if edge - end.receiver.edge >= step:
            end.receiver.edge = edge
        waits = end.told - end.receiver.taken < 2 * step
        if end.receiver.edge - end.told >= (step if waits else flow.buffer // 2):
            self._acknowledge(flow, ends, side)

    def _send(self, flow: Split, side: Side, position: int, payload: bytes, flags: int) -> None:
        """A segment for one end, in the name of the other."""
        assert flow.ends is not None
        self._emit(flow.ends, side, position, ACK | flags | (PSH if payload else 0), payload)

    def _acknowledge(self, flow: Split, ends: tuple[Half, Half], side: Side) -> None:
        """Tell an end what was taken over."""
        end = ends[side]
        self.counters["acknowledged"] += 1
        options = b""
        if flow.sack and (blocks := end.receiver.blocks()):
            edges = (_u32.pack((end.first + edge) % MODULUS) for block in blocks for edge in block)
            options = bytes((NOP, NOP, SACK, 2 + 8 * len(blocks))) + b"".join(edges)
        self._emit(ends, side, end.sender.nxt, ACK, b"", options)

    def _emit(
        self,
        ends: tuple[Half, Half],
        side: Side,
        position: int,
        flags: int,
        payload: bytes,
        options: bytes = b"",
    ) -> None:
        end, peer = ends[side], ends[side.other]
        end.told = end.receiver.edge
        urgent = min(max(peer.urgent - position, 0), 0xFFFF) if payload else 0
        segment = tcp_segment(
            peer.key,
            seq=peer.first + position,
            ack=end.first + end.receiver.taken,
            flags=flags | (URG if urgent else 0),
            window=min(end.receiver.window >> peer.scale, _LARGEST_WINDOW),
            urgent=urgent,
            options=options,
            payload=payload,
        )
        self.box.emit(segment, side)

    # The end

    def _reset(self, flow: Split, ends: tuple[Half, Half], side: Side, position: int) -> Verdict:
        """A reset ends both halves exactly where it is due, and else is asked back (RFC 5961)."""
        receiver = ends[side].receiver
        if position == receiver.taken:
            self.counters["reset"] += 1
            self._reset_end(ends, side.other)
            self._flows.end(flow, "reset")
            return ABSORB
        if receiver.taken < position < receiver.edge:
            self._acknowledge(flow, ends, side)
            return ABSORB
        return _UNBELIEVABLE

    def _reset_end(self, ends: tuple[Half, Half], side: Side) -> None:
        peer = ends[side.other]
        seq = peer.first + ends[side].sender.nxt
        self.box.emit(reset(peer.key, seq=seq), side)

    def _use_again(self, flow: Split, ends: tuple[Half, Half], side: Side) -> None:
        """An end that has finished uses its port again: nobody waits for the old data any more."""
        if not ends[side.other].finished:
            self._reset_end(ends, side.other)
        self._flows.end(flow, "used again")

    def _give_up(self, flow: Split) -> None:
        """An end does not answer any more: what was acknowledged to the other cannot arrive."""
        assert flow.ends is not None
        self.counters["given-up"] += 1
        for side in Side:
            self._reset_end(flow.ends, side)
        self._flows.end(flow, "given up")

    # ICMP

    def _error(self, packet: Packet) -> Verdict:
        """A segment of ours was too big for the path to an end: cut the next ones smaller."""
        mtu = mtu_told(packet)
        quote = None if mtu is None else quoted_segment(packet)
        flow = None if quote is None else self._flows.get(quote.key)
        if mtu is None or quote is None or flow is None or flow.ends is None:
            return PASS
        end, peer = flow.ends[packet.side], flow.ends[packet.side.other]
        una = end.sender.una
        position = una + difference(quote.seq(packet), (peer.first + una) % MODULUS)
        if quote.key != peer.key or not una <= position < end.sender.nxt:
            return PASS  # nothing that is under way (RFC 5927 section 4.1)
        self.counters["narrowed"] += 1
        end.sender.narrow(max(mss_of(mtu, packet.version), LEAST_MSS))
        return ABSORB


def _scales(mine: HandshakeOptions, others: HandshakeOptions) -> tuple[int, int]:
    """The window scales in force (RFC 7323 section 2.2)."""
    if mine.window_scale is None or others.window_scale is None:
        return 0, 0
    return mine.window_scale, others.window_scale


def _stop(flow: Split, cause: str) -> None:
    for end in flow.ends or ():
        end.sender.stop()


def _urgent_pointer(packet: Packet) -> int:
    pointer: int = _u16.unpack_from(packet.buffer, packet.transport + 18)[0]
    return pointer
