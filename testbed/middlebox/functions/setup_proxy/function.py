"""The TCP setup proxy: answers SYNs from outside on the server's behalf, then splices.

It opens its own connection to the server with the client's sequence numbers. Some routers throw
away the payload that a client sends with the acknowledgement that ends its handshake, although
a receiver has to process it like any other (RFC 9293 section 3.10.7.4, fifth to seventh check).
Both kinds are here: `handshake_data`.
"""

from __future__ import annotations

from typing import Final

from testbed.middlebox import (
    ABSORB,
    PASS,
    Box,
    Function,
    TcpFlow,
    TcpTable,
    Verdict,
    drop,
    function,
    tcp_phases,
)
from testbed.middlebox.functions.setup_proxy.connections import Splicings
from testbed.middlebox.functions.setup_proxy.cookies import LIFETIME, Cookie, SynCookies
from testbed.middlebox.functions.setup_proxy.openings import Openings
from testbed.middlebox.functions.setup_proxy.options import ProxyOptions
from testbed.wire.craft import reset_for
from testbed.wire.flags import ACK, RST, SYN, opens_connection
from testbed.wire.icmp import mtu_told, quoted_segment
from testbed.wire.ip import ICMP, ICMPV6, TCP
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import INSIDE, OUTSIDE, Packet

_BAD_CHECKSUM: Final = drop("bad-checksum")
_NO_CONNECTION: Final = drop("no-connection")
_BAD_COOKIES: Final = {name: drop(f"cookie-{name}") for name in ("invalid", "stale")}


@function("setup-proxy")
class SetupProxy(Function):
    """Connections from outside are opened on the server's behalf; others pass untouched."""

    protocols = frozenset({TCP, ICMP, ICMPV6})
    drains = True
    Options = ProxyOptions
    options: ProxyOptions

    def __init__(self, box: Box, options: ProxyOptions) -> None:
        super().__init__(box, options)
        limits = (options.connection_limit, options.idle_timeout)
        self._spliced = Splicings(box, self.counters, *limits)
        self._openings = Openings(box, self.counters, options, self._spliced)
        self._cookies = SynCookies(box.now)
        self._cookies_end = 0.0  # until when one that was given out may come back
        self._from_inside: TcpTable[TcpFlow] = TcpTable(
            box,
            tcp_phases(options.idle_timeout),
            limit=options.connection_limit,
            counters=self.counters,
            evicted="evicted-from-inside",
        )

    def reconfigure(self, options: ProxyOptions) -> None:
        super().reconfigure(options)
        limits = (options.connection_limit, options.idle_timeout)
        self._openings.configure(options)
        self._spliced.configure(*limits)
        self._from_inside.configure(
            tcp_phases(options.idle_timeout), limit=options.connection_limit
        )

    def gauges(self) -> dict[str, int]:
        return {
            "now-opening": len(self._openings),
            "now-spliced": len(self._spliced),
            "now-held-bytes": self._openings.held_bytes,
            "now-from-inside": len(self._from_inside),
        }

    def packet(self, packet: Packet) -> Verdict:
        if packet.protocol != TCP:
            return self._icmp(packet)
        connection = self._spliced.find(packet)
        if connection is not None:
            return self._spliced.translate(connection, packet)
        opening = self._openings.get(packet.key)
        if opening is not None:
            if not packet.checksum_is_right():
                return _BAD_CHECKSUM
            if packet.side is INSIDE:
                return self._openings.from_server(opening, packet)
            if not opens_connection(packet.flags) or packet.seq == opening.client_isn:
                return self._openings.from_client(opening, packet)
            self._openings.take_back(opening, "client-began-anew")
        if packet.side is OUTSIDE and self.enabled and opens_connection(packet.flags):
            return self._open(packet)
        if self.options.cookies or self._cookies_end > self.box.now():
            return self._without_connection(packet)
        return PASS

    def _open(self, packet: Packet) -> Verdict:
        if not packet.checksum_is_right():
            return _BAD_CHECKSUM
        if not self.options.cookies:
            return self._openings.begin(packet)
        asked = HandshakeOptions.of(packet.options())
        if not self.options.timestamps:
            asked = HandshakeOptions(mss=asked.mss)
        self.counters["cookies-sent"] += 1
        self._cookies_end = self.box.now() + LIFETIME
        return self._openings.answer_only(packet, self._cookies.make(packet, asked))

    def _without_connection(self, packet: Packet) -> Verdict:
        """With cookies, what comes from outside brings one back or belongs to a host inside."""
        if self._is_known_inside(packet) or packet.side is INSIDE:
            return PASS
        strict = self.enabled and self.options.cookies
        if not packet.checksum_is_right():
            return _BAD_CHECKSUM if strict else PASS
        if packet.flags & (SYN | RST | ACK) != ACK:
            return _NO_CONNECTION if strict else PASS
        found = self._cookies.read(packet)
        if isinstance(found, Cookie):
            self.counters["cookies-accepted"] += 1
            return self._openings.resume(packet, found)
        if not strict:
            return PASS
        self.counters[f"cookies-{found}"] += 1
        if self.options.bad_cookie == "reset":
            self.box.emit(reset_for(packet), OUTSIDE)
        return _BAD_COOKIES[found]

    def _is_known_inside(self, packet: Packet) -> bool:
        """Whether a segment belongs to a connection on which a host inside has sent anything.

        Such a host may have opened it before cookies were asked for, or the box was disabled.
        """
        flow = self._from_inside.find(packet)
        if flow is None:
            if packet.side is OUTSIDE or packet.flags & RST or not self.options.cookies:
                return False
            flow = TcpFlow()
            self._from_inside.begin(flow, packet)
        self._from_inside.saw(flow, packet)
        return True

    def _icmp(self, packet: Packet) -> Verdict:
        quoted = quoted_segment(packet)
        if quoted is None:
            return PASS
        connection = self._spliced.get(quoted.key)
        if connection is not None:
            self._spliced.translate_error(connection, packet, quoted)
            return PASS
        opening = self._openings.get(quoted.key)
        if opening is None:
            return PASS
        if not packet.checksum_is_right():
            return _BAD_CHECKSUM
        about_call = packet.side is INSIDE and opening.server_called and opening.splice is None
        if about_call and quoted.seq(packet) == opening.client_isn and _is_fatal(packet):
            return self._openings.refuse(opening, "unreachable")
        return ABSORB


def _is_fatal(packet: Packet) -> bool:
    """Whether an ICMP error says that a SYN cannot arrive, whatever its size."""
    kind = packet.buffer[packet.transport]
    fatal = (3, 11, 12) if packet.version == 4 else (1, 3, 4)
    return kind in fatal and mtu_told(packet) is None
