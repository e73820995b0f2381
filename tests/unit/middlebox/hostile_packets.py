"""Packets that nobody should send: a corpus to begin with, and what becomes of it by mutation.

Half of the corpus is sound: its checksums are right, however odd the rest is.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import NamedTuple

from box_bench import CLIENT_ISN, SERVER_ISN
from nat_bench import ip, with_checksum
from packet_bench import IPV4_KEY, IPV6_KEY, LINUX, loaded

from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, PSH, RST, SYN
from testbed.wire.icmp import icmp_error
from testbed.wire.packet import INSIDE, OUTSIDE, Packet, Side, reverse_key

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
_CHECKSUM_AT = {ICMP: 2, TCP: 16, UDP: 6, ICMPV6: 2}
_FRAGMENT = 44
_SKIPPED = (0, 43, 60, _FRAGMENT)  # extension headers whose length is in units of 8 bytes
FLOWS = 100
SYN_OPTIONS = LINUX.encode() + b"\x22\x04ab" + b"\x1e\x04\x00\x81"
BLOCKS = b"\x01\x01\x08\x0a" + bytes(8) + b"\x01\x01\x05\x12" + bytes(range(16))
FLAGS = [SYN, SYN, SYN | ACK, ACK, ACK, ACK, ACK | PSH, FIN | ACK, RST, RST | ACK, 0, 0xFF, 0xC2]
# Lengths of options that are impossible, or end beyond the header.
BAD_LENGTHS = [
    b"\x02\x00\x05\xb4",
    b"\x02\x01\x05\xb4",
    b"\x02\xff\x05\xb4",
    b"\x08\x0b\x00\x00",
    b"\x05\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\x01\x01\x01\x05",
    b"\x22\x40ab",
    b"\x03\x02\x00\x00",
]


class Case(NamedTuple):
    side: Side
    data: bytes
    sound: bool


def right(data: bytes | bytearray) -> bool:
    """Whether the checksums are right that a packet of whole headers has (RFC 1071).

    Of fragments and of transports without a checksum, this is the IP header's alone.
    """
    if data[0] >> 4 == 4:
        size, end = (data[0] & 15) * 4, int.from_bytes(data[2:4], "big")
        if not 20 <= size <= end <= len(data) or not _sums_up(data[:size]):
            return False
        if data[6] & 0x3F or data[7]:
            return True
        addresses, protocol = data[12:20], data[9]
    else:
        end = 40 + int.from_bytes(data[4:6], "big")
        if not 40 <= end <= len(data):
            return False
        addresses, protocol, size = data[8:40], data[6], 40
        while protocol in _SKIPPED:
            if size + 8 > end or (protocol == _FRAGMENT and data[size + 2 : size + 4] != b"\0\0"):
                return True
            if protocol == 43 and data[size + 3]:  # the checksum covers another address
                return True
            length = 0 if protocol == _FRAGMENT else data[size + 1]
            protocol, size = data[size], size + 8 + 8 * length
    content = data[size:end]
    at = _CHECKSUM_AT.get(protocol, len(content))
    if at + 2 > len(content) or (protocol == ICMPV6 and len(addresses) == 8):
        return True
    if protocol == UDP and len(addresses) == 8 and content[6:8] == b"\0\0":
        return True
    pseudo = b"" if protocol == ICMP else addresses + struct.pack("!II", len(content), protocol)
    return _sums_up(pseudo + content)


def _sums_up(data: bytes | bytearray) -> bool:
    """Whether the sum of all words is a multiple of 65535, which is 0 in ones' complement."""
    return int.from_bytes(data + b"\0" * (len(data) & 1), "big") % 0xFFFF == 0


def corpus(seed: str, size: int) -> list[Case]:
    """`size` packets of some connections, in both versions and from both sides."""
    rng = random.Random(seed)
    cases = []
    for _ in range(size):
        side = rng.choice([OUTSIDE, INSIDE])
        key = _key(rng, side)
        data = bytes(rng.choice(_KINDS)(rng, side, key))
        if rng.random() < 0.25:
            data = bytes(harmed(rng, bytearray(data)))
        cases.append(Case(side, data, len(data) >= 20 and right(data)))
    return cases


def harmed(rng: random.Random, data: bytearray) -> bytearray:
    """What is left of a packet after an accident."""
    harm = rng.randrange(6) if data else 5
    if harm == 0:  # cut
        return data[: rng.randrange(len(data))]
    if harm == 1:  # a length that is not its own
        at = 2 if data[0] >> 4 == 4 else 4
        data[at : at + 2] = rng.randrange(1 << 16).to_bytes(2, "big")
    elif harm == 2:  # the length of the IP header, or the version
        data[0] = rng.randrange(256)
    elif harm == 3:  # the length of the TCP header, or something in its place
        at = (20 if data[0] >> 4 == 4 else 40) + 12
        if at < len(data):
            data[at] = rng.randrange(256)
    elif harm == 4:
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    else:
        return bytearray(rng.randbytes(rng.randrange(120)))
    return data


def reply_to(data: bytes, rng: random.Random) -> bytes:
    """The segment that acknowledges a TCP segment, so that conversations get somewhere."""
    packet = loaded(data)
    if packet.protocol != TCP or len(packet.key) not in (12, 36):
        return data
    return bytes(
        tcp_segment(
            reverse_key(packet.key),
            seq=packet.ack,
            ack=packet.seq + bool(packet.flags & SYN) + packet.end - packet.payload,
            flags=rng.choice([ACK, ACK, ACK | PSH, SYN | ACK, FIN | ACK]),
            window=65535,
            options=_echo(packet),
            payload=rng.choice([b"", b"answer"]),
        )
    )


def _echo(packet: Packet) -> bytes:
    """Time stamps that answer those of a segment."""
    for kind, at, size in packet.walk_options():
        if kind == 8 and size == 10:
            return b"\x01\x01\x08\x0a" + struct.pack("!I", 1) + packet.buffer[at + 2 : at + 6]
    return b""


# What the corpus is made of; all of it has right checksums.


def _key(rng: random.Random, side: Side) -> bytes:
    key = bytearray(rng.choice([IPV4_KEY, IPV6_KEY]))
    struct.pack_into("!H", key, len(key) - 4, 40_000 + rng.randrange(FLOWS))
    return bytes(key) if side is OUTSIDE else reverse_key(bytes(key))


def _segment(rng: random.Random, side: Side, key: bytes, options: bytes | None = None) -> bytes:
    seq, ack = (CLIENT_ISN, SERVER_ISN) if side is OUTSIDE else (SERVER_ISN, CLIENT_ISN)
    if options is None:
        options = rng.choice([b"", SYN_OPTIONS, BLOCKS, rng.randbytes(4 * rng.randrange(11))])
    data = tcp_segment(
        key,
        seq=seq + rng.choice([0, 1, 1, 1, 1001, 50_000, 1 << 31]),
        ack=ack + rng.choice([0, 1, 1, 1, 1001, 50_000, 1 << 31]),
        flags=rng.choice(FLAGS),
        window=rng.choice([0, 501, 65535]),
        options=options,
        payload=rng.choice([b"", b"", b"x", b"query", bytes(1000)]),
    )
    return bytes(with_ecn(data, rng.randrange(4)))


def _segment_with_bad_options(rng: random.Random, side: Side, key: bytes) -> bytes:
    return _segment(rng, side, key, rng.choice(BAD_LENGTHS))


def with_ecn(data: bytearray, bits: int) -> bytearray:
    if data[0] >> 4 == 6:
        data[1] |= bits << 4
        return data
    data[1] |= bits
    (old,) = struct.unpack_from("!H", data, 10)
    total = 0xFFFF - old + bits
    struct.pack_into("!H", data, 10, 0xFFFF - ((total & 0xFFFF) + (total >> 16)))
    return data


def _datagram(rng: random.Random, side: Side, key: bytes) -> bytes:
    length = rng.choice([8 + 5, 8, 7, 0, 65535])
    content = key[-4:] + struct.pack("!HH", length, 0) + b"query"
    return bytes(with_checksum(key[:-4], UDP, content, 6))


def _echo_request(rng: random.Random, side: Side, key: bytes) -> bytes:
    protocol, kinds = (ICMP, [8, 0, 13]) if len(key) == 12 else (ICMPV6, [128, 129, 135])
    content = struct.pack("!BBHHH", rng.choice(kinds), 0, 0, rng.randrange(FLOWS), 7) + b"ping"
    return bytes(with_checksum(key[:-4], protocol, content, 2))


def _error(rng: random.Random, side: Side, key: bytes) -> bytes:
    """About a packet that went the other way, of which it quotes less or more."""
    about = loaded(_segment(rng, side.other, reverse_key(key)), side.other)
    kind = rng.choice([3, 3, 11, 12] if len(key) == 12 else [1, 2, 3, 4])
    whole = icmp_error(about, kind, rng.randrange(6), source=bytes((len(key) - 4) // 2))
    start = 20 if len(key) == 12 else 40
    quoted = bytes(whole[start : start + 8 + rng.choice([0, 7, 20, 27, 28, 48, 2000])])
    protocol = ICMP if len(key) == 12 else ICMPV6
    return bytes(with_checksum(key[:-4], protocol, quoted[:2] + b"\0\0" + quoted[4:], 2))


def _unknown(rng: random.Random, side: Side, key: bytes) -> bytes:
    protocol = rng.choice([0, 2, 41, 47, 50, 59, 89, 132, 255])
    return bytes(ip(key[:-4], protocol, rng.randbytes(rng.randrange(60))))


def _fragment(rng: random.Random, side: Side, key: bytes) -> bytes:
    """Of datagrams that overlap, that have holes, or that are too long."""
    offset, more = rng.choice([0, 0, 1, 2, 3, 185, 8190]), rng.randrange(2)
    content = rng.randbytes(rng.choice([0, 8, 8, 16, 24, 27, 1480]))
    identifier = rng.randrange(20)
    if len(key) == 36:
        head = struct.pack("!BBHI", rng.choice([TCP, UDP]), 0, offset << 3 | more, identifier)
        return bytes(ip(key[:-4], _FRAGMENT, head + content))
    data = ip(key[:-4], rng.choice([TCP, UDP]), content)
    struct.pack_into("!HH", data, 4, identifier, more << 13 | offset)
    return _with_header_checksum(data)


def _with_header_checksum(data: bytearray) -> bytes:
    size = (data[0] & 15) * 4
    data[10:12] = bytes(2)
    total = int.from_bytes(data[:size], "big") % 0xFFFF
    struct.pack_into("!H", data, 10, 0xFFFF - total)
    return bytes(data)


def _longer_header(rng: random.Random, side: Side, key: bytes) -> bytes:
    """IPv4 with options, IPv6 with extension headers: the transport is further behind."""
    data = bytearray(_segment(rng, side, key))
    if len(key) == 12:
        options = rng.choice([b"\x01\x01\x01\x00", b"\x94\x04\x00\x00", b"\x07\x07\x04\x00" * 3])
        longer = data[:20] + options + data[20:]
        longer[0] += len(options) // 4
        struct.pack_into("!H", longer, 2, len(longer))
        return _with_header_checksum(longer)
    kinds = rng.choices([0, 60, 43, _FRAGMENT], k=rng.choice([1, 2, 3, 20]))
    for kind in kinds:
        head = bytes((data[6], 0, 0, 0, 0, 0, 0, 0))
        data = data[:40] + head + data[40:]
        data[6] = kind
    struct.pack_into("!H", data, 4, len(data) - 40)
    return bytes(data)


_KINDS: list[Callable[[random.Random, Side, bytes], bytes]] = [
    *[_segment] * 6,
    *[_fragment] * 3,
    _segment_with_bad_options,
    _datagram,
    _echo_request,
    _error,
    _unknown,
    _longer_header,
]
