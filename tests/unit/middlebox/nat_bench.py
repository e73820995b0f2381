"""A NAT on the bench: hosts inside, one server outside, and packets of any protocol."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any, NamedTuple

from box_bench import Bench, Seen
from packet_bench import word_sum

from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, SYN
from testbed.wire.icmp import icmp_error
from testbed.wire.packet import INSIDE, OUTSIDE

POOL = {4: ("192.0.2.1", "192.0.2.2", "192.0.2.3"), 6: ("2001:db8::1", "2001:db8::2")}
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
SERVER_PORT = 80


class Flow(NamedTuple):
    """Addresses as text; for ICMP echo, `port` is the identifier and `to_port` is not used."""

    source: str
    port: int
    destination: str
    to_port: int = SERVER_PORT

    @property
    def back(self) -> Flow:
        return Flow(self.destination, self.to_port, self.source, self.port)

    @property
    def addresses(self) -> bytes:
        return packed(self.source) + packed(self.destination)

    @property
    def key(self) -> bytes:
        return self.addresses + struct.pack("!HH", self.port, self.to_port)


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def inside(version: int, host: int = 1) -> str:
    return f"10.0.0.{host}" if version == 4 else f"fd00::{host}"


def server(version: int, host: int = 1) -> str:
    return f"198.51.100.{host}" if version == 4 else f"2001:db8:5::{host}"


def flow(version: int, host: int = 1, port: int = 5000, to: int = 1) -> Flow:
    return Flow(inside(version, host), port, server(version, to))


def ip(addresses: bytes, protocol: int, content: bytes) -> bytearray:
    if len(addresses) == 8:
        head = bytearray(
            struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(content), 0, 0, 64, protocol, 0) + addresses
        )
        struct.pack_into("!H", head, 10, 0xFFFF - word_sum(bytes(head)))
        return head + content
    return bytearray(
        struct.pack("!IHBB", 6 << 28, len(content), protocol, 64) + addresses + content
    )


def with_checksum(addresses: bytes, protocol: int, content: bytes, at: int) -> bytearray:
    """An IP packet; the checksum at `at` of the content is filled in."""
    pseudo = b"" if protocol == ICMP else addresses + struct.pack("!II", len(content), protocol)
    value = 0xFFFF - word_sum(pseudo + content)
    filled = content[:at] + struct.pack("!H", value or 0xFFFF) + content[at + 2 :]
    return ip(addresses, protocol, filled)


def tcp(one: Flow, flags: int = ACK, payload: bytes = b"") -> bytearray:
    """Both ends begin with 999, and have sent nothing but that yet."""
    seq, ack = 999 if flags & SYN else 1000, 1000 if flags & ACK else 0
    return tcp_segment(one.key, seq=seq, ack=ack, flags=flags, payload=payload)


def udp(one: Flow, payload: bytes = b"query") -> bytearray:
    head = struct.pack("!HHHH", one.port, one.to_port, 8 + len(payload), 0)
    return with_checksum(one.addresses, UDP, head + payload, 6)


def echo(one: Flow, *, identifier: int, reply: bool = False) -> bytearray:
    protocol = ICMP if len(one.addresses) == 8 else ICMPV6
    kind = {ICMP: 8, ICMPV6: 128}[protocol]
    if reply:
        kind = {ICMP: 0, ICMPV6: 129}[protocol]
    return with_checksum(
        one.addresses, protocol, struct.pack("!BBHHH", kind, 0, 0, identifier, 7) + b"ping", 2
    )


def error(data: bytes | bytearray, source: str, cut: int | None = None) -> bytearray:
    """An unreachable error from `source` about a packet, quoting it or its first bytes."""
    from testbed.wire.packet import Packet

    packet = Packet()
    assert packet.load(bytearray(data), len(data), OUTSIDE)
    whole = icmp_error(packet, 3 if packet.version == 4 else 1, 3, source=packed(source))
    if cut is None:
        return whole
    start = 20 if packet.version == 4 else 40
    addresses = bytes(whole[12:20] if packet.version == 4 else whole[8:40])
    content = bytes(whole[start : start + 8 + cut])
    protocol = ICMP if packet.version == 4 else ICMPV6
    return with_checksum(addresses, protocol, content[:2] + b"\0\0" + content[4:], 2)


def quote_of(seen: Seen) -> bytes:
    return seen.transport[8:]


def source_of(seen: Seen) -> str:
    return str(ipaddress.ip_address(seen.key[:4] if seen.version == 4 else seen.key[:16]))


def destination_of(seen: Seen) -> str:
    return str(ipaddress.ip_address(seen.key[4:8] if seen.version == 4 else seen.key[16:32]))


def ports_of(seen: Seen) -> tuple[int, int]:
    return struct.unpack_from("!HH", seen.transport)


class NatBench(Bench):
    """A box with a NAT."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("pool", [*POOL[4], *POOL[6]])
        super().__init__(("nat", options))
        self.nat = self.pipeline.functions["nat"]

    def out(self, data: bytes | bytearray) -> Seen | None:
        """What leaves towards the outside when a packet comes from inside; nothing else may."""
        seen = self.put(INSIDE, data)
        assert all(one.side is OUTSIDE and one.right for one in seen) and len(seen) <= 1, seen
        return seen[0] if seen else None

    def back(self, data: bytes | bytearray) -> Seen | None:
        seen = self.put(OUTSIDE, data)
        assert all(one.side is INSIDE and one.right for one in seen) and len(seen) <= 1, seen
        return seen[0] if seen else None

    def send(self, data: bytes | bytearray) -> tuple[str, int]:
        """The public address and port with which a TCP or UDP packet from inside goes out."""
        seen = self.out(data)
        assert seen is not None
        return source_of(seen), ports_of(seen)[0]

    def open(self, one: Flow) -> Flow:
        """A whole TCP handshake; the flow as the server sees it."""
        address, port = self.send(tcp(one, SYN))
        public = Flow(address, port, one.destination, one.to_port)
        assert self.back(tcp(public.back, SYN | ACK)) is not None
        assert self.out(tcp(one)) is not None
        return public

    def close(self, one: Flow, public: Flow) -> None:
        assert self.out(tcp(one, FIN | ACK)) is not None
        assert self.back(tcp(public.back, FIN | ACK)) is not None
        assert self.out(tcp(one)) is not None

    @property
    def counted(self) -> dict[str, int]:
        return dict(self.nat.counters)

    @property
    def sessions(self) -> int:
        return self.nat.gauges()["now-sessions"]
