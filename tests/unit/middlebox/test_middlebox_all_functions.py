"""Every function, at its worst: hostile packets do no harm to it, nor it to them.

A new function joins by an entry in `AT_WORK`, which makes it do all that it can.
"""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from box_bench import CLIENT_ISN, IPV4_KEY, IPV6_KEY, LINUX, SERVER_ISN, Bench, checksums_are_right

from testbed.middlebox.packet import (
    ACK,
    FIN,
    INSIDE,
    OPAQUE,
    OUTSIDE,
    PSH,
    RST,
    SYN,
    Packet,
    Side,
)
from testbed.middlebox.registry import functions
from testbed.middlebox.segments import icmp_error, reverse_key, tcp_segment

AT_WORK: dict[str, dict[str, Any]] = {
    "ack-thinner": {"connection_limit": 50},
    "ecn-black-hole": {"drop": "capable"},
    "ecn-bleach": {},
    "firewall": {
        "half_open_limit": 50,
        "connection_limit": 50,
        "strict_windows": True,
        "reject": "icmp",
    },
    "fast-open": {"mode": "strip", "non_syn": "drop", "flow_limit": 50},
    "flow-disorder": {"every": 2, "connection_limit": 50},
    "fragments": {"limit": 4, "datagram_limit": 50, "memory_limit": 1 << 17},
    "nat": {"pool": ["192.0.2.1", "2001:db8::1"], "session_limit": 50},
    "options": {
        "strip": ["sack", "timestamps", "tfo", "mptcp", "unknown"],
        "rewrite": {"window-scale": 1},
        "mss_clamp": 100,
    },
    "pep": {"connection_limit": 50},
    "pmtu-black-hole": {"mtu": 500, "icmp": "send"},
    "reset-injector": {"connection_limit": 50},
    "sequence-randomiser": {"connection_limit": 50},
    "setup-proxy": {"half_open_limit": 50, "connection_limit": 50},
    "trace-log": {"flags": ["all"], "size": 10_000},
    "window-scale-mangler": {"direction": "both"},
}
LIMIT = 50  # of every table of the functions above
PACKETS = 4000
FLOOD = 3000
SYN_OPTIONS = LINUX.encode() + b"\x22\x04ab" + b"\x1e\x04\x00\x81"
BLOCKS = b"\x01\x01\x08\x0a" + bytes(8) + b"\x01\x01\x05\x12" + bytes(range(16))
FLAGS = [SYN, SYN | ACK, ACK, ACK, ACK, ACK | PSH, FIN | ACK, RST, RST | ACK, 0, 0xFF, 0xC2]


def step(rng: random.Random) -> tuple[Side, bytearray]:
    """A packet near enough to sense to get into a function, one in four of them damaged."""
    side = rng.choice([OUTSIDE, INSIDE])
    key = bytearray(rng.choice([IPV4_KEY, IPV6_KEY]))
    struct.pack_into("!H", key, len(key) - 4, rng.randrange(40000, 40100))
    seq, ack = (CLIENT_ISN, SERVER_ISN) if side is OUTSIDE else (SERVER_ISN, CLIENT_ISN)
    data = tcp_segment(
        bytes(key) if side is OUTSIDE else reverse_key(bytes(key)),
        seq=seq + rng.choice([0, 1, 1, 1, 1001, 50_000, 1 << 31]),
        ack=ack + rng.choice([0, 1, 1, 1, 1001, 50_000, 1 << 31]),
        flags=rng.choice(FLAGS),
        window=rng.choice([0, 501, 65535]),
        options=rng.choice([b"", SYN_OPTIONS, BLOCKS, rng.randbytes(4 * rng.randrange(11))]),
        payload=rng.choice([b"", b"", b"x", bytes(1000)]),
    )
    _set_ecn(data, rng.randrange(4))
    if rng.random() < 0.25:
        data = harmed(rng, data)
    return side, data


def _set_ecn(data: bytearray, bits: int) -> None:
    if data[0] >> 4 == 6:
        data[1] |= bits << 4
        return
    data[1] |= bits
    (old,) = struct.unpack_from("!H", data, 10)
    total = 0xFFFF - old + bits
    struct.pack_into("!H", data, 10, 0xFFFF - ((total & 0xFFFF) + (total >> 16)))


def harmed(rng: random.Random, data: bytearray) -> bytearray:
    harm = rng.randrange(5)
    if harm == 0:
        return data[: rng.randrange(len(data))]
    if harm == 1:  # a fragment
        data[6] |= 0x20
        return data
    if harm == 2:  # another protocol
        data[9 if data[0] >> 4 == 4 else 6] = rng.randrange(256)
        return data
    if harm == 3:
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return data
    packet = Packet()
    assert packet.load(data, len(data), OUTSIDE)
    source = bytes(4 if packet.version == 4 else 16)
    return icmp_error(packet, rng.choice([1, 2, 3, 11]), rng.randrange(6), source=source)


def sound(data: bytes | bytearray) -> bool:
    """Whether it has checksums that can be right, and they are."""
    packet = Packet()
    return (
        packet.load(bytearray(data), len(data), OUTSIDE)
        and packet.protocol in (1, 6, 58)
        and packet.transport in (20, 40)
        and len(data) == packet.end
        and checksums_are_right(data)
    )


def changed(before: bytes | bytearray, after: bytes | bytearray) -> bool:
    """Whether more was changed than the hop limit."""
    return before[:2] != after[:2] or before[12:] != after[12:]


def test_every_function_is_in_the_table():
    assert AT_WORK.keys() == functions().keys()


@pytest.mark.parametrize("name", AT_WORK)
def test_hostile_packets_do_no_harm(name):
    rng = random.Random(name)
    bench = Bench((name, AT_WORK[name]))
    worked = 0
    damaged: set[bytes] = set()  # those a function may have kept, and let go with another one
    for number in range(PACKETS):
        side, data = step(rng)
        was_sound = sound(data)
        if not was_sound:
            damaged.add(bytes(data[12:]))
        for seen in bench.put(side, data):
            packet = Packet()
            assert packet.load(bytearray(seen.data), len(seen.data), OUTSIDE)
            if was_sound and packet.protocol != OPAQUE and packet.transport in (20, 40):
                right = checksums_are_right(seen.data) or bytes(seen.data[12:]) in damaged
                assert right, (bytes(data).hex(), seen.data.hex())
            worked += changed(data, seen.data)
        if number % 100 == 0:
            for seen in bench.wait(rng.choice([0.1, 10.0])):
                assert seen.right or bytes(seen.data[12:]) in damaged
    worked += sum(bench.dropped.values())
    assert worked > PACKETS / 50  # the table makes it work


@pytest.mark.parametrize("name", AT_WORK)
def test_a_flood_from_everywhere_leaves_its_tables_within_their_limits(name):
    bench = Bench((name, AT_WORK[name]))
    key = bytearray(IPV4_KEY)
    for number in range(FLOOD):
        struct.pack_into("!I", key, 0, number)
        bench.put(OUTSIDE, tcp_segment(bytes(key), seq=1, flags=SYN, options=LINUX.encode()))
        bench.put(OUTSIDE, tcp_segment(bytes(key), seq=2, ack=3, flags=ACK, window=9))
    function = bench.pipeline.functions[name]
    assert all(value <= LIMIT for value in function.gauges().values()), function.gauges()
    assert len(bench.timers) < 10 * LIMIT
    assert bench.pipeline.counters().held <= LIMIT
