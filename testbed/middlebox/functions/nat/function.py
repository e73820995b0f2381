"""Source NAT: hosts inside share public addresses (RFC 4787, RFC 5382, RFC 5508)."""

from __future__ import annotations

import ipaddress
from typing import Final

from testbed.middlebox import (
    EVICTED,
    HOLD,
    PASS,
    Box,
    Function,
    Phase,
    TcpTable,
    Verdict,
    drop,
    function,
)
from testbed.middlebox.functions.nat.bindings import Binding
from testbed.middlebox.functions.nat.endpoints import Endpoints
from testbed.middlebox.functions.nat.options import NatOptions
from testbed.middlebox.functions.nat.sessions import (
    HAVE_PORTS,
    Session,
    SessionPhase,
    new_session,
)
from testbed.wire.checksum import adjust_checksum
from testbed.wire.craft import reset_for
from testbed.wire.edit import replace_address
from testbed.wire.flags import RST, opens_connection
from testbed.wire.icmp import ECHO_TYPES, is_icmp_error, quoted_packet, translate_quote
from testbed.wire.ip import ICMP, ICMPV6, TCP, UDP
from testbed.wire.packet import INSIDE, OUTSIDE, Packet, reverse_key

_NO_SESSION: Final = drop("no-session")
_NO_MAPPING: Final = drop("no-mapping")
_EXHAUSTED: Final = drop("ports-exhausted")
_UNTRANSLATABLE: Final = drop("untranslatable")
_PHASES: Final = {ICMP: SessionPhase.ICMP, ICMPV6: SessionPhase.ICMP, UDP: SessionPhase.UDP}


@function("nat")
class Nat(Function):
    """Puts public addresses in the place of those inside, for TCP, UDP and ICMP."""

    drains = True
    claims_own_addresses = True
    Options = NatOptions
    options: NatOptions

    def __init__(self, box: Box, options: NatOptions) -> None:
        super().__init__(box, options)
        self._sessions: TcpTable[Session] = TcpTable(
            box,
            _phases(options),
            phase_of=(SessionPhase.TRANSITORY, SessionPhase.TRANSITORY, SessionPhase.TCP),
            limit=options.session_limit,
            on_end=self._ended,
        )
        self._endpoints = Endpoints(box, options)
        self._own = {ipaddress.ip_address(text).packed for text in box.addresses[OUTSIDE]}

    def reconfigure(self, options: NatOptions) -> None:
        super().reconfigure(options)
        self._endpoints.configure(options)
        self._sessions.configure(_phases(options), limit=options.session_limit)

    def gauges(self) -> dict[str, int]:
        return {"now-sessions": len(self._sessions), **self._endpoints.gauges()}

    def packet(self, packet: Packet) -> Verdict:
        protocol = packet.protocol
        if protocol in (TCP, UDP):
            key = packet.key
        elif protocol in (ICMP, ICMPV6):
            if is_icmp_error(packet):
                return self._error(packet)
            at = packet.transport
            request, reply = ECHO_TYPES[protocol]
            # From outside only replies belong to sessions: those begin with requests from inside.
            if packet.buffer[at] not in (request, reply)[packet.side is OUTSIDE :]:
                return self._stranger(packet, _UNTRANSLATABLE)
            key = packet.key + bytes(packet.buffer[at + 4 : at + 6] * 2)
        else:
            return self._stranger(packet, _UNTRANSLATABLE)
        if packet.side is OUTSIDE:
            return self._inward(packet, key)
        session = self._sessions.get((INSIDE, protocol, key))
        if session is None:
            begun = self._begin(packet, key)
            if isinstance(begun, Verdict):
                return begun
            session = begun
        self._use(session, packet)
        session.outward.apply(packet)
        return self._hairpin(packet) if session.hairpins else PASS

    def _inward(self, packet: Packet, key: bytes) -> Verdict:
        session = self._sessions.get((OUTSIDE, packet.protocol, key))
        if session is None:
            session = self._begin_from_outside(packet, key)
            if session is None:
                return self._stranger(packet, _NO_SESSION)
        self._use(session, packet)
        session.inward.apply(packet)
        return PASS

    def _use(self, session: Session, packet: Packet) -> None:
        """Take note of a packet, given as it came."""
        if packet.protocol == TCP:
            self._sessions.saw(session, packet)
        else:
            self._sessions.use(session)

    def _hairpin(self, packet: Packet) -> Verdict:
        """Hairpinning: what is addressed to a public endpoint comes as if from outside."""
        data = packet.copy()
        turned = Packet()
        turned.load(data, len(data), OUTSIDE)
        if turned.protocol in (ICMP, ICMPV6):
            verdict = self._error(turned)
        else:
            verdict = self._inward(turned, turned.key)
        if verdict is PASS:
            self.box.release(data, INSIDE)
            return HOLD
        return verdict

    def _translates(self, packet: Packet) -> bool:
        return self.enabled and self._endpoints.serve(packet.version)

    def _stranger(self, packet: Packet, from_inside: Verdict) -> Verdict:
        """A packet without a session that begins none."""
        if not self._translates(packet):
            return PASS
        destination = _destination(packet)
        if packet.side is INSIDE:
            return PASS if destination in self._own else from_inside
        if destination not in self._endpoints or self._is_for_the_node(packet, destination):
            return PASS
        return _NO_MAPPING

    def _is_for_the_node(self, packet: Packet, destination: bytes) -> bool:
        """Whether a packet from outside without a session may be the node's own business."""
        if destination not in self._own:
            return False
        if packet.protocol in HAVE_PORTS:
            return not self._endpoints.has_port(packet.key[-2:])
        return packet.protocol in (ICMP, ICMPV6)

    def _aims_at(self, packet: Packet, key: bytes) -> Verdict | None:
        """What becomes of a packet to an address of ours, if it is not translated."""
        destination = _destination(packet)
        public = destination in self._endpoints and self.options.hairpinning
        mapped = self._endpoints.mapping_at(packet.protocol, destination, key[-2:]) is not None
        if public and mapped and packet.protocol in HAVE_PORTS:
            return None
        if destination in self._own:
            return PASS
        return _NO_MAPPING if public else None

    # Sessions

    def _begin(self, packet: Packet, key: bytes) -> Session | Verdict:
        """The session that a packet from inside begins, or why it begins none."""
        if not self._translates(packet):
            return PASS
        protocol = packet.protocol
        verdict = self._aims_at(packet, key)
        if verdict is not None:
            return verdict
        if protocol == TCP and not opens_connection(packet.flags):
            return self._unknown_segment(packet)
        if protocol in ECHO_TYPES and packet.buffer[packet.transport] != ECHO_TYPES[protocol][0]:
            return _UNTRANSLATABLE
        taken = self._endpoints.take(protocol, key)
        if taken is None:
            self.counters["ports-exhausted"] += 1
            return _EXHAUSTED
        return self._add_session(packet, key, *taken)

    def _add_session(
        self, packet: Packet, key: bytes, mapping: Binding, pair: Binding | None
    ) -> Session:
        """key: of packets from inside."""
        protocol = packet.protocol
        session = new_session(protocol, key, mapping, pair)
        to_public = session.remote in self._endpoints
        session.hairpins = to_public and protocol in HAVE_PORTS and self.options.hairpinning
        keys = (INSIDE, protocol, key), (OUTSIDE, protocol, session.inward_key)
        if protocol == TCP:
            self._sessions.begin(session, packet, *keys)
        else:
            self._sessions.add(session, *keys, phase=_PHASES[protocol])
        self.counters["sessions"] += 1
        return session

    def _begin_from_outside(self, packet: Packet, key: bytes) -> Session | None:
        """The session that a packet from outside begins, if the filtering admits it."""
        protocol = packet.protocol
        if protocol not in HAVE_PORTS or not self._translates(packet):
            return None
        if protocol == TCP and not opens_connection(packet.flags):
            return None
        width = (len(key) - 4) // 2
        remote, public = key[:width], key[width : 2 * width]
        mapping = self._endpoints.mapping_at(protocol, public, key[-2:])
        if mapping is None or not self._endpoints.admit(mapping, remote):
            return None
        outward = mapping.owner[:width] + remote + mapping.owner[width:] + key[-4:-2]
        if self._sessions.get((INSIDE, protocol, outward)) is not None:
            return None  # by another mapping
        self.counters["sessions-from-outside"] += 1
        return self._add_session(packet, outward, *self._endpoints.share(mapping, remote))

    def _unknown_segment(self, packet: Packet) -> Verdict:
        if self.options.on_timeout == "reset" and not packet.flags & RST:
            self.counters["resets-sent"] += 1
            self.box.emit(reset_for(packet), INSIDE)
        return _NO_SESSION

    def _ended(self, session: Session, cause: str) -> None:
        self.counters["evicted" if cause == EVICTED else "timed-out"] += 1
        self._endpoints.leave(session.mapping, session.pair, session.remote)

    # ICMP errors

    def _error(self, packet: Packet) -> Verdict:
        """Translate an error about a packet of a session, inside out (RFC 5508 section 4)."""
        quote = quoted_packet(packet)
        if quote is None:
            return self._stranger(packet, _UNTRANSLATABLE)
        # About what came from the other side, and went out as what the quote says.
        inward = packet.side is OUTSIDE
        session = self._sessions.get((packet.side, quote.protocol, reverse_key(quote.key)))
        if session is None:
            if not inward and _destination(packet) in self._endpoints:
                return self._hairpin(packet)  # of the node's kernel, to a public address
            return self._stranger(packet, _NO_SESSION)
        address, port = session.private if inward else session.public
        translate_quote(packet, quote, address=address, port=port, destination=not inward)
        delta = replace_address(packet, address, destination=inward)
        if packet.protocol == ICMPV6:
            adjust_checksum(packet.buffer, packet.checksum_at, delta)
        packet.reload()
        self.counters["errors-translated"] += 1
        return self._hairpin(packet) if session.hairpins and not inward else PASS


def _destination(packet: Packet) -> bytes:
    start, end = (16, 20) if packet.version == 4 else (24, 40)
    return bytes(packet.buffer[start:end])


def _phases(options: NatOptions) -> tuple[Phase, ...]:
    """In the order of `SessionPhase`."""
    return (
        Phase(options.transitory_timeout),
        Phase(options.icmp_timeout),
        Phase(options.udp_timeout),
        Phase(options.idle_timeout),
    )
