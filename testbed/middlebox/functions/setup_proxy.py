"""The TCP setup proxy: answers SYNs from outside on the server's behalf, then splices.

It opens its own connection to the server with the client's sequence numbers. Some routers throw
away the payload that a client sends with the acknowledgement that ends its handshake, although
a receiver has to process it like any other (RFC 9293 section 3.10.7.4, fifth to seventh check).
Both kinds are here: `handshake_data`.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated, Final, Literal

import msgspec

from testbed.middlebox.connections import Connection, Connections
from testbed.middlebox.flow_table import FlowTable
from testbed.middlebox.function import ABSORB, HOLD, PASS, Box, MiddleboxFunction, Verdict, drop
from testbed.middlebox.limits import Count, Duration
from testbed.middlebox.opening import ANSWER_WINDOW, Opening
from testbed.middlebox.packet import (
    ACK,
    FIN,
    ICMP,
    ICMPV6,
    INSIDE,
    OUTSIDE,
    RST,
    SYN,
    TCP,
    Packet,
)
from testbed.middlebox.registry import function
from testbed.middlebox.segments import MODULUS, HandshakeOptions, quoted_segment, reset_for
from testbed.middlebox.splice import LEAST_MSS, Splice

_FIRST_RETRANSMISSION: Final = 1.0  # seconds, then doubled (RFC 6298 section 2)
_HELD_PER_CONNECTION: Final = 2 * ANSWER_WINDOW  # bytes, headers included
_HELD_BY_ALL: Final = 16 << 20
_OPENS: Final = SYN | ACK | RST | FIN  # of these only SYN is set in a segment that opens

_HANDSHAKE_DATA = drop("handshake-data")
_EARLY_DATA = drop("early-data")
_BAD_CHECKSUM = drop("bad-checksum")
_UNACCEPTABLE = drop("unacceptable-segment")
_HELD_ALREADY = drop("held-already")
_HELD_TOO_MUCH = drop("held-too-much")


@function("setup-proxy")
class SetupProxy(MiddleboxFunction):
    """Connections from outside are opened on the server's behalf; others pass untouched."""

    protocols = frozenset({TCP, ICMP, ICMPV6})
    drains = True

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """What kind of proxy it is. All can be set while traffic runs.

        handshake_data: what happens to payload on the segment that ends the client's handshake;
        `drop` is the bug, `hold` keeps it until the server has answered.
        early_data: the same for what the client sends after that segment and before the server
        has answered.
        opening: whether the server is called when the client's SYN comes (`simultaneous`) or when
        its handshake is complete (`serial`).
        answer_window: the window of the answer to the client's SYN, in bytes. With 0 nothing can be
        sent until the server has answered, when a window update follows, as from the kernel's
        SYNPROXY (net/netfilter/nf_synproxy_core.c), whose opening is serial.
        half_open_timeout: seconds that both handshakes together may take.
        on_timeout: whether both sides are reset then, or left alone (`silent`).
        mss: the largest MSS offered to either side, further bounded by the box's MTU; None for
        that bound alone.
        window_scale: the scale offered to the client, `mirror` for the client's own, `none` for no
        scaling. Windows are translated where the server's differs.
        sack, timestamps: whether these options are agreed to. The client is promised what only the
        server can keep: without SACK there, the client waits for time-outs where it should
        retransmit fast, and `sack: false` is the cure.
        half_open_limit, connection_limit: connections remembered while opening and after; beyond
        that the least recently used one is forgotten.
        idle_timeout: seconds after which a silent connection is forgotten (RFC 5382 REQ-5).
        """

        handshake_data: Literal["drop", "hold"] = "hold"
        early_data: Literal["drop", "hold"] = "hold"
        opening: Literal["simultaneous", "serial"] = "simultaneous"
        answer_window: Annotated[int, msgspec.Meta(ge=0, le=ANSWER_WINDOW)] = ANSWER_WINDOW
        half_open_timeout: Duration = 30.0
        on_timeout: Literal["reset", "silent"] = "reset"
        mss: Annotated[int, msgspec.Meta(ge=88, le=65495)] | None = None
        window_scale: Annotated[int, msgspec.Meta(ge=0, le=14)] | Literal["mirror", "none"] = (
            "mirror"
        )
        sack: bool = True
        timestamps: bool = True
        half_open_limit: Count = 16384
        connection_limit: Count = 65536
        idle_timeout: Duration = 7440.0

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self._opening: FlowTable[Opening] = FlowTable(options.half_open_limit, self._evict)
        self._spliced = Connections(
            box, self.counters, options.connection_limit, options.idle_timeout
        )
        self._held_bytes = 0

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._opening.limit = options.half_open_limit
        self._spliced.configure(options.connection_limit, options.idle_timeout)

    def gauges(self) -> dict[str, int]:
        return {
            "now-opening": len(self._opening),
            "now-spliced": len(self._spliced),
            "now-held-bytes": self._held_bytes,
        }

    def packet(self, packet: Packet) -> Verdict:
        if packet.protocol != TCP:
            return self._icmp(packet)
        connection = self._spliced.get(packet.key)
        if connection is not None and not self._begins_anew(connection, packet):
            return self._spliced.translate(connection, packet)
        opening = self._opening.get(packet.key)
        if opening is not None:
            if not packet.checksum_is_right():
                return _BAD_CHECKSUM
            if packet.side is OUTSIDE:
                return self._from_client(opening, packet)
            return self._from_server(opening, packet)
        if packet.side is OUTSIDE and self.enabled and packet.flags & _OPENS == SYN:
            return self._open(packet)
        return PASS

    # The client leg

    def _open(self, packet: Packet) -> Verdict:
        """Answer a SYN; data on it is not accepted, so that the client sends it again."""
        if not packet.checksum_is_right():
            return _BAD_CHECKSUM
        client = HandshakeOptions.of(packet)
        opening = Opening(
            key=packet.key,
            client_isn=packet.seq,
            proxy_isn=_initial_sequence_number(),
            client=client,
            offered=self._offer(client, packet.version),
            window=packet.window,
            serial=self.options.opening == "serial",
            deadline=self.box.now() + self.options.half_open_timeout,
            answer_window=self.options.answer_window,
        )
        self._opening.add(opening, opening.key, opening.server_key)
        self.counters["opened"] += 1
        self.box.emit(opening.answer(), OUTSIDE)
        if opening.serial:
            self._schedule(opening)
        else:
            self._call(opening)
        return ABSORB

    def _offer(self, client: HandshakeOptions, version: int) -> HandshakeOptions:
        options = self.options
        scale = client.window_scale
        if scale is not None and options.window_scale != "mirror":
            scale = None if options.window_scale == "none" else options.window_scale
        stamps = None
        if options.timestamps and client.timestamps:
            stamps = (int(self.box.now() * 1000) % MODULUS, client.timestamps[0])
        return HandshakeOptions(
            mss=self._mss(version),
            window_scale=scale,
            sack=options.sack and client.sack,
            timestamps=stamps,
        )

    def _mss(self, version: int) -> int:
        path = self.box.mtu - (40 if version == 4 else 60)
        return max(path if self.options.mss is None else min(path, self.options.mss), LEAST_MSS)

    def _from_client(self, opening: Opening, packet: Packet) -> Verdict:
        flags = packet.flags
        if flags & SYN:
            return self._client_repeats(opening, packet)
        if (packet.seq - opening.first_data) % MODULUS > _HELD_PER_CONNECTION:
            return _UNACCEPTABLE
        if flags & RST:
            return self._client_resets(opening)
        # What the server has said already may be acknowledged with the handshake.
        ahead = (packet.ack - opening.proxy_isn - 1) % MODULUS
        if not flags & ACK or (ahead and (opening.splice is None or ahead > MODULUS // 2)):
            if flags & ACK:
                self.box.emit(reset_for(packet), OUTSIDE)
            return _UNACCEPTABLE
        first = not opening.client_up
        opening.client_up = True
        opening.client_said(packet)
        if first and opening.serial:
            self._call(opening)
        connection = self._join(opening) if opening.splice is not None else None
        size = packet.end - packet.payload
        if first and size and self.options.handshake_data == "drop":
            return _HANDSHAKE_DATA
        carries = size or flags & FIN
        if connection is not None:
            return self._spliced.translate(connection, packet) if carries or ahead else ABSORB
        if not carries:
            return ABSORB
        if not first and self.options.early_data == "drop":
            return _EARLY_DATA
        return self._hold(opening, packet)

    def _client_repeats(self, opening: Opening, packet: Packet) -> Verdict:
        """A SYN again: our answer was lost, or the client has begun anew."""
        if packet.flags & _OPENS != SYN:
            return _UNACCEPTABLE
        if packet.seq == opening.client_isn:
            self.counters["answers-repeated"] += 1
            self.box.emit(opening.answer(), OUTSIDE)
            return ABSORB
        self._take_back(opening, "client-began-anew")
        return self._open(packet) if self.enabled else PASS

    def _client_resets(self, opening: Opening) -> Verdict:
        self.counters["reset-by-client"] += 1
        self._take_back(opening, "reset-by-client")
        return ABSORB

    def _hold(self, opening: Opening, packet: Packet) -> Verdict:
        data = packet.copy()
        old = opening.held.get(packet.seq, b"")
        if len(data) <= len(old):
            return _HELD_ALREADY
        more = len(data) - len(old)
        full = opening.held_bytes + more > _HELD_PER_CONNECTION
        if full or self._held_bytes + more > _HELD_BY_ALL:
            return _HELD_TOO_MUCH
        if old:
            self.box.abandon(1, _HELD_ALREADY.cause)
        opening.held[packet.seq] = data
        opening.held_bytes += more
        self._held_bytes += more
        return HOLD

    # The server leg

    def _call(self, opening: Opening) -> None:
        opening.server_called = True
        opening.interval = _FIRST_RETRANSMISSION
        self.box.emit(self._call_for(opening), INSIDE)
        self._schedule(opening)

    def _call_for(self, opening: Opening) -> bytearray:
        return opening.call(self._mss(opening.version))

    def _from_server(self, opening: Opening, packet: Packet) -> Verdict:
        flags = packet.flags
        if opening.splice is not None:
            return self._server_is_ahead(opening, opening.splice, packet)
        if not opening.server_called or not flags & ACK:
            return _UNACCEPTABLE
        if packet.ack != opening.first_data:  # of an older connection (RFC 9293 section 3.5.1)
            if not flags & RST:
                self.box.emit(reset_for(packet), INSIDE)
            return _UNACCEPTABLE
        if flags & RST:
            return self._refuse(opening, "refused")
        if not flags & SYN:
            return _UNACCEPTABLE
        opening.server_answered(packet)
        self.box.emit(opening.acknowledgement(), INSIDE)
        if opening.client_up:
            self._join(opening)
        return ABSORB

    def _server_is_ahead(self, opening: Opening, splice: Splice, packet: Packet) -> Verdict:
        """The server leg is up and the client leg is not: the server may speak first."""
        flags = packet.flags
        if flags & SYN:  # our acknowledgement was lost
            self.box.emit(opening.acknowledgement(), INSIDE)
            return ABSORB
        splice.to_client(packet)
        if flags & FIN:
            opening.server_ended = True
        if flags & RST:
            self._end(opening, "reset-by-server")
        return PASS

    def _refuse(self, opening: Opening, cause: str) -> Verdict:
        self.counters[cause] += 1
        self.box.emit(opening.reset_for_client(), OUTSIDE)
        self._end(opening, cause)
        return ABSORB

    # Time

    def _schedule(self, opening: Opening) -> None:
        if opening.timer is not None:
            opening.timer.cancel()
        delay = min(opening.interval, opening.deadline - self.box.now())
        opening.timer = self.box.call_later(max(delay, 0.0), partial(self._retry, opening))

    def _retry(self, opening: Opening) -> None:
        """Send again what was not answered, until it takes too long."""
        if self.box.now() >= opening.deadline:
            self._time_out(opening)
            return
        if not opening.client_up:
            self.counters["answers-repeated"] += 1
            self.box.emit(opening.answer(), OUTSIDE)
        if opening.server_called and opening.splice is None:
            self.counters["calls-repeated"] += 1
            self.box.emit(self._call_for(opening), INSIDE)
        opening.interval *= 2
        self._schedule(opening)

    def _time_out(self, opening: Opening) -> None:
        self.counters["timed-out"] += 1
        if self.options.on_timeout == "silent":
            self._end(opening, "timed-out")
            return
        self.box.emit(opening.reset_for_client(), OUTSIDE)
        self._take_back(opening, "timed-out")

    def _take_back(self, opening: Opening, cause: str) -> None:
        """End it, on the server's side too."""
        if opening.server_called:
            self.box.emit(opening.reset_for_server(), INSIDE)
        self._end(opening, cause)

    def _end(self, opening: Opening, cause: str) -> None:
        self._opening.remove(opening)
        self._discard(opening, cause)

    def _evict(self, opening: Opening) -> None:
        self.counters["evicted-opening"] += 1
        self._discard(opening, "evicted")

    def _discard(self, opening: Opening, cause: str) -> None:
        if opening.timer is not None:
            opening.timer.cancel()
        if opening.held:
            self.box.abandon(len(opening.held), cause)
            self._held_bytes -= opening.held_bytes

    # The splice

    def _join(self, opening: Opening) -> Connection:
        """Both handshakes are done: one connection from here on."""
        if opening.timer is not None:
            opening.timer.cancel()
        self._opening.remove(opening)
        self._held_bytes -= opening.held_bytes
        if not opening.answer_window:
            self.counters["windows-opened"] += 1
            self.box.emit(opening.window_update(), OUTSIDE)
        return self._spliced.add(opening)

    def _begins_anew(self, connection: Connection, packet: Packet) -> bool:
        """Whether a SYN makes use of the ports of a closed connection.

        One for a connection that is not closed goes to the server, which knows how to answer it
        (RFC 5961 section 4).
        """
        if packet.flags & (SYN | ACK) != SYN or not connection.closed:
            return False
        self._spliced.forget(connection)
        return True

    def _icmp(self, packet: Packet) -> Verdict:
        quoted = quoted_segment(packet)
        if quoted is None:
            return PASS
        connection = self._spliced.get(quoted.key)
        if connection is not None:
            self._spliced.translate_error(connection, packet, quoted)
            return PASS
        opening = self._opening.get(quoted.key)
        if opening is None:
            return PASS
        if not packet.checksum_is_right():
            return _BAD_CHECKSUM
        about_call = packet.side is INSIDE and opening.server_called and opening.splice is None
        if about_call and quoted.seq == opening.client_isn and _is_fatal(packet):
            return self._refuse(opening, "unreachable")
        return ABSORB


def _initial_sequence_number() -> int:
    """One that nobody can guess (RFC 9293 section 3.4.1)."""
    return int.from_bytes(os.urandom(4), "big")


def _is_fatal(packet: Packet) -> bool:
    """Whether an ICMP error says that a SYN cannot arrive, whatever its size."""
    kind, code = packet.buffer[packet.transport : packet.transport + 2]
    if packet.version == 6:
        return kind in (1, 3, 4)
    return kind in (3, 11, 12) and (kind, code) != (3, 4)
