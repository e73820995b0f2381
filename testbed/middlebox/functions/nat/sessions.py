"""The sessions of a NAT, and how their packets are translated."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from testbed.middlebox import TcpFlow
from testbed.middlebox.functions.nat.bindings import Binding
from testbed.wire.checksum import adjust_checksum, adjusted
from testbed.wire.ip import ICMP, TCP, UDP
from testbed.wire.packet import Packet, reverse_key

HAVE_PORTS: Final = frozenset({TCP, UDP})
_u16 = struct.Struct("!H")
_read16, _put16 = _u16.unpack_from, _u16.pack_into
# Both addresses and ports; of IPv4 with the header's checksum before them.
_put_key4 = struct.Struct("!H12s").pack_into
_put_key6 = struct.Struct("36s").pack_into


class SessionPhase(IntEnum):
    """Sessions that wait equally long; those first in this order make room first."""

    TRANSITORY = 0  # TCP that is not open yet, or closed
    ICMP = 1
    UDP = 2
    TCP = 3


class AddressAndPort(NamedTuple):
    """An address and a port, as they stand in a packet; an ICMP identifier is a port, too."""

    address: bytes
    port: bytes


class Translation(NamedTuple):
    """What becomes of the packets of one direction.

    key: their `Packet.key` when they are translated.
    identifier: of ICMP.
    address_delta: what the header's checksummed data grows by.
    delta: the same for the transport's.
    """

    key: bytes
    identifier: bytes
    address_delta: int
    delta: int

    def apply(self, packet: Packet) -> None:
        """Rewrite a packet; checksums follow (RFC 1624)."""
        buffer, at, key = packet.buffer, packet.transport, self.key
        protocol = packet.protocol
        ports_follow = protocol in HAVE_PORTS and at == (20 if packet.version == 4 else 40)
        if packet.version == 4 and ports_follow:
            (old,) = _read16(buffer, 10)
            _put_key4(buffer, 10, adjusted(old, self.address_delta), key)
        elif ports_follow:
            _put_key6(buffer, 8, key)
        elif packet.version == 4:
            buffer[12:20] = key[:8]
            adjust_checksum(buffer, 10, self.address_delta)
            _put_endpoints(buffer, at, key[8:], self.identifier)
        else:
            buffer[8:40] = key[:32]
            _put_endpoints(buffer, at, key[32:], self.identifier)
        if protocol == TCP:
            (old,) = _read16(buffer, at + 16)
            _put16(buffer, at + 16, adjusted(old, self.delta))
        elif protocol == UDP:
            # 0 stands for no checksum (RFC 768), and where 0 comes out its other form is sent.
            (old,) = _read16(buffer, at + 6)
            if old or packet.version == 6:
                _put16(buffer, at + 6, adjusted(old, self.delta) or 0xFFFF)
        else:
            adjust_checksum(buffer, packet.checksum_at, self.delta)
        packet.key = key


@dataclass(eq=False, slots=True, kw_only=True)
class Session(TcpFlow):
    """One conversation of an endpoint inside, and the public endpoint that stands for it.

    private, public: these two endpoints.
    remote: the address of the endpoint outside, or what stands for it there.
    outward, inward: how its packets are translated.
    inward_key: of packets that come from outside, as they come; an ICMP identifier stands for both
    ports.
    mapping, pair: the bindings that it uses.
    hairpins: whether it goes to a public endpoint of somebody inside.
    """

    private: AddressAndPort
    public: AddressAndPort
    remote: bytes
    outward: Translation
    inward: Translation
    inward_key: bytes
    mapping: Binding
    pair: Binding | None
    hairpins: bool = False


def new_session(protocol: int, key: bytes, mapping: Binding, pair: Binding | None) -> Session:
    """The session of packets from inside with this key, an ICMP identifier as ports."""
    width = (len(key) - 4) // 2
    has_ports = protocol in HAVE_PORTS
    private = AddressAndPort(key[:width], key[-4:-2])
    public = AddressAndPort(mapping.address, _u16.pack(mapping.port))
    remote_port = key[-2:] if has_ports else public.port
    inward_key = key[width : 2 * width] + public.address + remote_port + public.port
    length = None if has_ports else -4  # of ICMP, `Packet.key` has the addresses only
    # Modulo 65535, the sum of an address's words is the address itself.
    address_delta = (_number(public.address) - _number(private.address)) % 0xFFFF
    delta = _number(public.port) - _number(private.port)
    if protocol != ICMP:
        delta += address_delta
    return Session(
        private=private,
        public=public,
        remote=key[width : 2 * width],
        outward=Translation(reverse_key(inward_key)[:length], public.port, address_delta, delta),
        inward=Translation(reverse_key(key)[:length], private.port, -address_delta, -delta),
        inward_key=inward_key,
        mapping=mapping,
        pair=pair,
    )


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _put_endpoints(buffer: bytearray, at: int, ports: bytes, identifier: bytes) -> None:
    """Write the ports of a transport header at `at`; where it has none, of ICMP, its identifier."""
    if ports:
        buffer[at : at + 4] = ports
    else:
        buffer[at + 4 : at + 6] = identifier
