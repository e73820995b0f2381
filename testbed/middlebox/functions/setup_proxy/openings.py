"""The connections that a proxy is opening: both handshakes, repeated, timed out, then joined."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from typing import Final

from testbed.middlebox import (
    ABSORB,
    HOLD,
    PASS,
    Box,
    FlowTable,
    Phase,
    Verdict,
    drop,
)
from testbed.middlebox.functions.setup_proxy.connections import Splicing, Splicings
from testbed.middlebox.functions.setup_proxy.cookies import Cookie
from testbed.middlebox.functions.setup_proxy.opening import ANSWER_WINDOW, Opening
from testbed.middlebox.functions.setup_proxy.options import ProxyOptions
from testbed.middlebox.functions.setup_proxy.splice import Splice
from testbed.wire.craft import reset_for
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.options import LEAST_MSS, HandshakeOptions, mss_of
from testbed.wire.packet import INSIDE, OUTSIDE, Packet
from testbed.wire.sequence import MODULUS

_FIRST_RETRANSMISSION: Final = 1.0  # seconds, then doubled (RFC 6298 section 2)
_HELD_PER_CONNECTION: Final = 2 * ANSWER_WINDOW  # bytes, headers included
_HELD_BY_ALL: Final = 16 << 20

_HANDSHAKE_DATA: Final = drop("handshake-data")
_EARLY_DATA: Final = drop("early-data")
_UNACCEPTABLE: Final = drop("unacceptable-segment")
_HELD_ALREADY: Final = drop("held-already")
_HELD_TOO_MUCH: Final = drop("held-too-much")


class Openings:
    """At most `half_open_limit` of them, found by the key of either direction.

    spliced: where a connection goes when both of its legs are up. All packets that are given to
    it have a right checksum.
    """

    def __init__(
        self, box: Box, counters: Counter[str], options: ProxyOptions, spliced: Splicings
    ) -> None:
        self._box = box
        self._counters = counters
        self._options = options
        self._spliced = spliced
        self._table: FlowTable[Opening] = FlowTable(
            box,
            limit=options.half_open_limit,
            counters=counters,
            evicted="evicted-opening",
            on_end=self._discard,
        )
        self.held_bytes = 0
        self.get = self._table.get

    def __len__(self) -> int:
        return len(self._table)

    def configure(self, options: ProxyOptions) -> None:
        """Other options hold from now on."""
        self._options = options
        self._table.configure((Phase(),), limit=options.half_open_limit)

    # The client leg

    def begin(self, packet: Packet) -> Verdict:
        """Answer a SYN; data on it is not accepted, so that the client sends it again."""
        opening = self._opening(
            packet,
            client_isn=packet.seq,
            proxy_isn=_initial_sequence_number(),
            client=HandshakeOptions.of(packet.options()),
            clock=int(self._box.now() * 1000) % MODULUS,
            serial=self._options.opening == "serial",
        )
        self._add(opening)
        self._box.emit(opening.answer(), OUTSIDE)
        if opening.serial:
            self._schedule(opening)
        else:
            self._call(opening)
        return ABSORB

    def answer_only(self, packet: Packet, cookie: Cookie) -> Verdict:
        """Answer a SYN, and forget it."""
        self._box.emit(self._of_cookie(packet, cookie).answer(), OUTSIDE)
        return ABSORB

    def resume(self, packet: Packet, cookie: Cookie) -> Verdict:
        """Go on with what was forgotten: a segment of the client has brought the cookie back."""
        opening = self._of_cookie(packet, cookie)
        self._add(opening)
        if packet.seq == opening.first_data:
            return self.from_client(opening, packet)
        self._client_is_up(opening, packet)
        return ABSORB

    def _add(self, opening: Opening) -> None:
        self._table.add(opening, opening.key, opening.server_key)
        self._counters["opened"] += 1

    def _of_cookie(self, packet: Packet, cookie: Cookie) -> Opening:
        return self._opening(
            packet,
            client_isn=cookie.client_isn,
            proxy_isn=cookie.isn,
            client=cookie.client,
            clock=cookie.clock,
            serial=True,
        )

    def _opening(
        self,
        packet: Packet,
        *,
        client_isn: int,
        proxy_isn: int,
        client: HandshakeOptions,
        clock: int,
        serial: bool,
    ) -> Opening:
        """clock: the TSval of the answer, if it has one."""
        return Opening(
            key=packet.key,
            client_isn=client_isn,
            proxy_isn=proxy_isn,
            client=client,
            offered=self._offer(client, clock, packet.version),
            window=packet.window,
            serial=serial,
            deadline=self._box.now() + self._options.half_open_timeout,
            answer_window=self._options.answer_window,
        )

    def _offer(self, client: HandshakeOptions, clock: int, version: int) -> HandshakeOptions:
        options = self._options
        scale = client.window_scale
        if scale is not None and options.window_scale != "mirror":
            scale = None if options.window_scale == "none" else options.window_scale
        stamps = None
        if options.timestamps and client.timestamps:
            stamps = (clock, client.timestamps[0])
        return HandshakeOptions(
            mss=self._mss(version),
            window_scale=scale,
            sack=options.sack and client.sack,
            timestamps=stamps,
        )

    def _mss(self, version: int) -> int:
        path = mss_of(self._box.mtu, version)
        return max(path if self._options.mss is None else min(path, self._options.mss), LEAST_MSS)

    def from_client(self, opening: Opening, packet: Packet) -> Verdict:
        """Judge a segment of the client that does not begin anew.

        The checks come in the order of RFC 9293 section 3.10.7.4.
        """
        flags = packet.flags
        if flags & SYN:
            return self._client_repeats(opening, packet)
        if flags & RST:
            return self._client_resets(opening, packet)
        if (packet.seq - opening.first_data) % MODULUS > _HELD_PER_CONNECTION:
            return _UNACCEPTABLE
        # What the server has said already may be acknowledged with the handshake.
        ahead = (packet.ack - opening.proxy_isn - 1) % MODULUS
        if not flags & ACK:
            return _UNACCEPTABLE
        if ahead and (opening.splice is None or ahead > MODULUS // 2):
            self._box.emit(reset_for(packet), OUTSIDE)
            return _UNACCEPTABLE
        first = not opening.client_up
        self._client_is_up(opening, packet)
        connection = self._join(opening) if opening.splice is not None else None
        has_data = packet.payload < packet.end
        if first and has_data and self._options.handshake_data == "drop":
            return _HANDSHAKE_DATA
        says_more = has_data or bool(flags & FIN)
        if connection is not None:
            return self._spliced.translate(connection, packet) if says_more or ahead else ABSORB
        return self._keep(opening, packet, first) if says_more else ABSORB

    def _keep(self, opening: Opening, packet: Packet, first: bool) -> Verdict:
        """Data that came before the server has answered."""
        if not first and self._options.early_data == "drop":
            return _EARLY_DATA
        return self._hold(opening, packet)

    def _client_resets(self, opening: Opening, packet: Packet) -> Verdict:
        """A reset counts where it is expected; elsewhere in the window it is asked back (RFC 5961
        section 3.2)."""
        if packet.seq in (opening.first_data, opening.next_data):
            self._counters["reset-by-client"] += 1
            self.take_back(opening, "reset-by-client")
            return ABSORB
        if (packet.seq - opening.first_data) % MODULUS < opening.answer_window:
            self._box.emit(opening.challenge(), OUTSIDE)
        return _UNACCEPTABLE

    def _client_repeats(self, opening: Opening, packet: Packet) -> Verdict:
        """A SYN again: our answer was lost."""
        if packet.flags & (ACK | RST | FIN) or packet.seq != opening.client_isn:
            return _UNACCEPTABLE
        self._counters["answers-repeated"] += 1
        self._box.emit(opening.answer(), OUTSIDE)
        return ABSORB

    def _client_is_up(self, opening: Opening, packet: Packet) -> None:
        first = not opening.client_up
        opening.client_up = True
        opening.client_said(packet)
        if first and opening.serial:
            self._call(opening)

    def _hold(self, opening: Opening, packet: Packet) -> Verdict:
        data = packet.copy()
        old = opening.held.get(packet.seq, b"")
        if len(data) <= len(old):
            return _HELD_ALREADY
        more = len(data) - len(old)
        full = opening.held_bytes + more > _HELD_PER_CONNECTION
        if full or self.held_bytes + more > _HELD_BY_ALL:
            return _HELD_TOO_MUCH
        if old:
            self._box.abandon(1, _HELD_ALREADY.cause)
        opening.held[packet.seq] = data
        opening.held_bytes += more
        self.held_bytes += more
        return HOLD

    # The server leg

    def _call(self, opening: Opening) -> None:
        opening.server_called = True
        opening.interval = _FIRST_RETRANSMISSION
        self._box.emit(self._call_for(opening), INSIDE)
        self._schedule(opening)

    def _call_for(self, opening: Opening) -> bytearray:
        return opening.call(self._mss(opening.version))

    def from_server(self, opening: Opening, packet: Packet) -> Verdict:
        """Judge a segment of the server."""
        flags = packet.flags
        if opening.splice is not None:
            return self._server_is_ahead(opening, opening.splice, packet)
        if not opening.server_called or not flags & ACK:
            return _UNACCEPTABLE
        if packet.ack != opening.first_data:  # of an older connection (RFC 9293 section 3.5.1)
            if not flags & RST:
                self._box.emit(reset_for(packet), INSIDE)
            return _UNACCEPTABLE
        if flags & RST:
            return self.refuse(opening, "refused")
        if not flags & SYN:
            return _UNACCEPTABLE
        opening.server_answered(packet)
        self._box.emit(opening.acknowledgement(), INSIDE)
        if opening.client_up:
            self._join(opening)
        return ABSORB

    def _server_is_ahead(self, opening: Opening, splice: Splice, packet: Packet) -> Verdict:
        """The server leg is up and the client leg is not: the server may speak first."""
        flags = packet.flags
        if flags & SYN:  # our acknowledgement was lost
            self._box.emit(opening.acknowledgement(), INSIDE)
            return ABSORB
        if opening.server_says(packet):
            opening.server_ended = opening.server_ended or bool(flags & FIN)
            if flags & RST:
                self._table.end(opening, "reset-by-server")
        splice.to_client(packet)
        return PASS

    def refuse(self, opening: Opening, cause: str) -> Verdict:
        """The server will not answer: reset the client."""
        self._counters[cause] += 1
        self._box.emit(opening.reset_for_client(), OUTSIDE)
        self._table.end(opening, cause)
        return ABSORB

    # Time

    def _schedule(self, opening: Opening) -> None:
        if opening.timer is not None:
            opening.timer.cancel()
        delay = min(opening.interval, opening.deadline - self._box.now())
        opening.timer = self._box.call_later(max(delay, 0.0), partial(self._retry, opening))

    def _retry(self, opening: Opening) -> None:
        """Send again what was not answered, until it takes too long."""
        if self._box.now() >= opening.deadline:
            self._time_out(opening)
            return
        if not opening.client_up:
            self._counters["answers-repeated"] += 1
            self._box.emit(opening.answer(), OUTSIDE)
        if opening.server_called and opening.splice is None:
            self._counters["calls-repeated"] += 1
            self._box.emit(self._call_for(opening), INSIDE)
        opening.interval *= 2
        self._schedule(opening)

    def _time_out(self, opening: Opening) -> None:
        self._counters["timed-out"] += 1
        if self._options.on_timeout == "silent":
            self._table.end(opening, "timed-out")
            return
        self._box.emit(opening.reset_for_client(), OUTSIDE)
        self.take_back(opening, "timed-out")

    # The end

    def take_back(self, opening: Opening, cause: str) -> None:
        """End it, on the server's side too."""
        if opening.server_called:
            self._box.emit(opening.reset_for_server(), INSIDE)
        self._table.end(opening, cause)

    def _discard(self, opening: Opening, cause: str) -> None:
        if opening.timer is not None:
            opening.timer.cancel()
        if opening.held:
            self._box.abandon(len(opening.held), cause)
            self.held_bytes -= opening.held_bytes

    def _join(self, opening: Opening) -> Splicing:
        """Both handshakes are done: one connection from here on."""
        if opening.timer is not None:
            opening.timer.cancel()
        self._table.remove(opening)
        self.held_bytes -= opening.held_bytes
        if not opening.answer_window:
            self._counters["windows-opened"] += 1
            self._box.emit(opening.window_update(), OUTSIDE)
        return self._spliced.add(opening)


def _initial_sequence_number() -> int:
    """One that nobody can guess (RFC 9293 section 3.4.1)."""
    return int.from_bytes(os.urandom(4), "big")
