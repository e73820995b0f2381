"""Source NAT: hosts inside share public addresses (RFC 4787, RFC 5382, RFC 5508).

A packet comes back only from where one was sent to (address and port-dependent filtering).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from itertools import count
from typing import Annotated, Any, Final, Literal

import msgspec

from testbed.middlebox.bindings import Binding, Bindings, PublicPorts
from testbed.middlebox.function import PASS, Box, MiddleboxFunction, Verdict, drop
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
    UDP,
    Packet,
    adjust_checksum,
)
from testbed.middlebox.quotes import ECHO_TYPES, is_icmp_error, quoted_packet, translate_quote
from testbed.middlebox.registry import function
from testbed.middlebox.segments import reset_for, reverse_key
from testbed.middlebox.sessions import Line, Session, Sessions, new_session
from testbed.topology.model import Seconds

_NO_SESSION: Final = drop("no-session")
_NO_MAPPING: Final = drop("no-mapping")
_EXHAUSTED: Final = drop("ports-exhausted")
_UNTRANSLATABLE: Final = drop("untranslatable")
_OPENS: Final = SYN | ACK | RST | FIN  # of these only SYN is set in a segment that opens
_MOST_ADDRESSES: Final = 256

Count = Annotated[int, msgspec.Meta(ge=1)]
Duration = Annotated[Seconds, msgspec.Meta(gt=0, extra={"unit": "duration"})]


@function("nat")
class Nat(MiddleboxFunction):
    """Puts public addresses in the place of those inside, for TCP, UDP and ICMP."""

    drains = True
    claims_own_addresses = True

    class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """How it maps. All can be set while traffic runs; sessions keep what they have.

        pool: public addresses, the node's own on its outside (all of them when empty) or others
        that the outside routes to it. Packets of a family that has none in it are not translated.
        ports: the public ports, which are ICMP identifiers too, written `1024-65535`. A client
        keeps its own port where it is free.
        address_pooling: `paired` gives all sessions of one client the same public address; with
        `none` each mapping takes the next one of the pool.
        mapping: whether an endpoint inside has one public endpoint for all it talks to
        (`endpoint-independent`), or one for each (`endpoint-dependent`).
        mapping_timeout: seconds for which a client's public address, and an endpoint-independent
        mapping, are kept after the last session.
        idle_timeout: seconds of silence after which an open TCP session ends (RFC 5382 REQ-5).
        transitory_timeout: the same for TCP that is not open yet, or was closed.
        udp_timeout, icmp_timeout: the same for UDP (RFC 4787 REQ-5) and ICMP (RFC 5508 REQ-2).
        on_timeout: what a client gets that goes on with a TCP session that has ended: nothing
        (`silent`) or a `reset`.
        session_limit: sessions remembered; beyond that the least recently used one ends, of those
        not open first.
        """

        pool: tuple[str, ...] = ()
        ports: str = "1024-65535"
        address_pooling: Literal["paired", "none"] = "paired"
        mapping: Literal["endpoint-independent", "endpoint-dependent"] = "endpoint-independent"
        mapping_timeout: Duration = 300.0
        idle_timeout: Duration = 7440.0
        transitory_timeout: Duration = 240.0
        udp_timeout: Duration = 300.0
        icmp_timeout: Duration = 60.0
        on_timeout: Literal["silent", "reset"] = "silent"
        session_limit: Count = 65536

        def __post_init__(self) -> None:
            if len(self.pool) > _MOST_ADDRESSES:
                raise ValueError(f"pool: at most {_MOST_ADDRESSES} addresses, got {len(self.pool)}")
            for text in self.pool:
                ipaddress.ip_address(text)
            if len(set(self.pool)) < len(self.pool):
                raise ValueError("pool: an address is listed twice")
            _port_range(self.ports)

    options: Options

    def __init__(self, box: Box, options: Options) -> None:
        super().__init__(box, options)
        self._ports: dict[tuple[int, bytes], PublicPorts] = {}
        self._sessions = Sessions(box, options.session_limit, _timeouts(options), self._ended)
        limits = (options.mapping_timeout, options.session_limit)
        self._mappings = Bindings(box, *limits, self._free_port)
        self._pairs = Bindings(box, *limits, lambda _: None)
        self._turn = count()
        self._adopt(options)

    def reconfigure(self, options: Options) -> None:
        super().reconfigure(options)
        self._adopt(options)
        self._sessions.configure(options.session_limit, _timeouts(options))
        self._mappings.configure(options.mapping_timeout, options.session_limit)
        self._pairs.configure(options.mapping_timeout, options.session_limit)

    def _adopt(self, options: Options) -> None:
        addresses = [
            ipaddress.ip_address(text) for text in options.pool or self.box.addresses[OUTSIDE]
        ]
        self._pool = {
            version: [one.packed for one in addresses if one.version == version]
            for version in (4, 6)
        }
        self._public = {one.packed for one in addresses}
        self._first_port, self._last_port = _port_range(options.ports)

    def gauges(self) -> dict[str, int]:
        return {
            "now-sessions": len(self._sessions),
            "now-mappings": len(self._mappings),
            "now-pairs": len(self._pairs),
        }

    def packet(self, packet: Packet) -> Verdict:
        protocol = packet.protocol
        if protocol in (TCP, UDP):
            key = packet.key
        elif protocol in (ICMP, ICMPV6):
            if is_icmp_error(packet):
                return self._error(packet)
            at = packet.transport
            if packet.buffer[at] not in ECHO_TYPES[protocol]:
                return self._stranger(packet, _UNTRANSLATABLE)
            key = packet.key + bytes(packet.buffer[at + 4 : at + 6] * 2)
        else:
            return self._stranger(packet, _UNTRANSLATABLE)
        if packet.side is OUTSIDE:
            session = self._sessions.from_outside(protocol, key)
            if session is None:
                return self._stranger(packet, _NO_SESSION)
            self._sessions.use(session, packet)
            session.inward(packet)
            return PASS
        session = self._sessions.from_inside(protocol, key)
        if session is not None:
            self._sessions.use(session, packet)
        elif not self._translates(packet):
            return PASS
        else:
            begun = self._begin(packet, key)
            if isinstance(begun, Verdict):
                return begun
            session = begun
        session.outward(packet)
        return PASS

    def _translates(self, packet: Packet) -> bool:
        return self.enabled and bool(self._pool[packet.version])

    def _stranger(self, packet: Packet, from_inside: Verdict) -> Verdict:
        """A packet without a session that begins none."""
        if not self._translates(packet):
            return PASS
        if packet.side is INSIDE:
            return from_inside
        start, end = (16, 20) if packet.version == 4 else (24, 40)
        return _NO_MAPPING if bytes(packet.buffer[start:end]) in self._public else PASS

    # Sessions

    def _begin(self, packet: Packet, key: bytes) -> Session | Verdict:
        """The session that a packet from inside begins, or why it begins none."""
        protocol = packet.protocol
        if protocol == TCP and packet.flags & _OPENS != SYN:
            return self._unknown_segment(packet)
        if protocol in ECHO_TYPES and packet.buffer[packet.transport] != ECHO_TYPES[protocol][0]:
            return _UNTRANSLATABLE
        pair = self._pair(key) if self.options.address_pooling == "paired" else None
        mapping = self._mapping(packet, key, pair)
        if mapping is None:
            self.counters["ports-exhausted"] += 1
            if pair is not None:
                self._pairs.leave(pair)
            return _EXHAUSTED
        session = new_session(packet, key, mapping, pair, self.box.now())
        self._sessions.add(session)
        self.counters["sessions"] += 1
        return session

    def _unknown_segment(self, packet: Packet) -> Verdict:
        if self.options.on_timeout == "reset" and not packet.flags & RST:
            self.counters["resets-sent"] += 1
            self.box.emit(reset_for(packet), INSIDE)
        return _NO_SESSION

    def _pair(self, key: bytes) -> Binding:
        """The public address of a client, in use from now on."""
        client = key[: (len(key) - 4) // 2]
        pair = self._pairs.get(client)
        if pair is None or pair.address not in self._public:
            pool = self._pool[4 if len(client) == 4 else 6]
            if pair is not None:
                self._pairs.detach(pair)
            pair = Binding(client, 0, pool[next(self._turn) % len(pool)])
            self._pairs.add(pair)
        self._pairs.use(pair)
        return pair

    def _mapping(self, packet: Packet, key: bytes, pair: Binding | None) -> Binding | None:
        """The public endpoint for a new session, in use from now on; None where none is free."""
        shared = self.options.mapping == "endpoint-independent"
        width = (len(key) - 4) // 2
        whose = bytes((packet.protocol,)) + (key[:width] + key[-4:-2] if shared else key)
        mapping = self._mappings.get(whose)
        if mapping is not None and mapping.address not in self._public:
            self._mappings.detach(mapping)
            mapping = None
        if mapping is None:
            mapping = self._new_mapping(packet, whose, int.from_bytes(key[-4:-2], "big"), pair)
            if mapping is None:
                return None
            self._mappings.add(mapping)
        self._mappings.use(mapping)
        return mapping

    def _new_mapping(
        self, packet: Packet, whose: bytes, wanted: int, pair: Binding | None
    ) -> Binding | None:
        if pair is not None:
            candidates = [pair.address]
        else:
            pool = self._pool[packet.version]
            turn = next(self._turn) % len(pool)
            candidates = pool[turn:] + pool[:turn]
        for address in candidates:
            ports = self._ports.setdefault((packet.protocol, address), PublicPorts())
            port = ports.take(wanted, self._first_port, self._last_port)
            if port is not None:
                kept = self.options.mapping == "endpoint-independent"
                return Binding(whose, packet.protocol, address, port, kept=kept)
        return None

    def _ended(self, session: Session, cause: str) -> None:
        self.counters[cause] += 1
        self._mappings.leave(session.mapping)
        if session.pair is not None:
            self._pairs.leave(session.pair)

    def _free_port(self, mapping: Binding) -> None:
        self._ports[mapping.protocol, mapping.address].give_back(mapping.port)

    # ICMP errors

    def _error(self, packet: Packet) -> Verdict:
        """Translate an error about a packet of a session, inside out (RFC 5508 section 4)."""
        quote = quoted_packet(packet)
        if quote is None:
            return self._stranger(packet, _UNTRANSLATABLE)
        back = reverse_key(quote.key)
        if packet.side is OUTSIDE:  # about what came from inside and was sent out as ours
            session = self._sessions.from_outside(quote.protocol, back)
            if session is None:
                return self._stranger(packet, _NO_SESSION)
            address, port = session.private_address, session.private_port
        else:
            session = self._sessions.from_inside(quote.protocol, back)
            if session is None:
                return self._stranger(packet, _NO_SESSION)
            address, port = session.public_address, session.public_port
        inward = packet.side is OUTSIDE
        translate_quote(packet, quote, address=address, port=port, destination=not inward)
        _replace_address(packet, address, destination=inward)
        self.counters["errors-translated"] += 1
        return PASS


def _replace_address(packet: Packet, address: bytes, *, destination: bool) -> None:
    """Put another address into the header of an ICMP packet; checksums follow (RFC 1624)."""
    buffer, width = packet.buffer, len(address)
    at = (12 if width == 4 else 8) + (width if destination else 0)
    delta = int.from_bytes(address, "big") - int.from_bytes(buffer[at : at + width], "big")
    buffer[at : at + width] = address
    adjust_checksum(buffer, 10 if width == 4 else packet.checksum_at, delta)
    packet.reload()


def _port_range(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text)
    first, last = map(int, found.groups()) if found else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise ValueError(f"ports: expected a range such as 1024-65535, got '{text[:40]}'")
    return first, last


def _timeouts(options: Any) -> Mapping[Line, float]:
    return {
        Line.TRANSITORY: options.transitory_timeout,
        Line.ICMP: options.icmp_timeout,
        Line.UDP: options.udp_timeout,
        Line.TCP: options.idle_timeout,
    }
