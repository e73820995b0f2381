"""A NAT under hostile packets: no crash, no private source outside, no damage, no growth."""

from __future__ import annotations

import random

from nat_bench import NatBench, echo, error, flow, inside, source_of, tcp, udp
from packet_bench import checksums_are_right

from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.packet import INSIDE, OUTSIDE, Packet, Side

PACKETS = 6000
LIMIT = 60
ROUTER = {4: "203.0.113.9", 6: "2001:db8:9::9"}
HAVE_CHECKSUMS = (1, 6, 17, 58)


def fresh(rng: random.Random) -> bytearray:
    """What a host inside may send, of any kind that is translated."""
    one = flow(
        rng.choice([4, 6]),
        host=rng.randrange(1, 200),
        port=rng.randrange(2000, 2020),
        to=rng.randrange(1, 4),
    )
    kind = rng.randrange(4)
    if kind < 2:
        return tcp(one, SYN if kind else rng.choice([ACK, FIN | ACK, RST]))
    return udp(one) if kind == 2 else echo(one, identifier=rng.randrange(1 << 16))


def turned(data: bytes) -> bytearray:
    """The packet with source and destination exchanged, ports too; checksums stay right."""
    back = bytearray(data)
    width, start, transport = (4, 12, 20) if data[0] >> 4 == 4 else (16, 8, 40)
    middle, end = start + width, start + 2 * width
    back[start:end] = data[middle:end] + data[start:middle]
    if data[9 if width == 4 else 6] in (6, 17):
        back[transport : transport + 4] = (
            data[transport + 2 : transport + 4] + data[transport : transport + 2]
        )
    return back


def sound(data: bytes | bytearray) -> bool:
    """Whether it has checksums that can be right, and they are."""
    packet = Packet()
    return (
        packet.load(bytearray(data), len(data), OUTSIDE)
        and packet.protocol in HAVE_CHECKSUMS
        and packet.transport in (20, 40)
        and len(data) == packet.end
        and checksums_are_right(data)
    )


def step(rng: random.Random, sent: list[bytes]) -> tuple[Side, bytearray]:
    kind = rng.randrange(5)
    if kind < 2 or not sent:
        return INSIDE, fresh(rng)
    seen = rng.choice(sent)
    if kind == 2:
        return OUTSIDE, turned(seen)
    side = rng.choice([INSIDE, OUTSIDE])
    if kind == 3 or not sound(seen):
        return side, bytearray(seen)
    version = seen[0] >> 4
    source = inside(version, 9) if side is INSIDE else ROUTER[version]
    return side, error(seen, source, cut=rng.choice([None, None, rng.randrange(60)]))


def test_hostile_packets_do_no_harm():
    rng = random.Random("nat")
    bench = NatBench(session_limit=LIMIT)
    sent: list[bytes] = []
    for number in range(PACKETS):
        side, data = step(rng, sent)
        if rng.random() < 0.2:
            data[rng.randrange(len(data))] = rng.randrange(256)
        was_sound = sound(data)
        for seen in bench.put(side, data):
            if was_sound:
                assert seen.right, (bytes(data).hex(), seen.data.hex())
            if seen.side is OUTSIDE:
                if was_sound:
                    assert not source_of(seen).startswith(("10.", "fd00:")), seen.data.hex()
                sent = [*sent[-50:], bytes(seen.data)]
        if number % 300 == 0:
            bench.wait(rng.choice([1.0, 100.0]))
    counted = bench.counted
    assert counted["errors-translated"] > 50 and counted["evicted"] > 500
    gauges = bench.nat.gauges()
    assert gauges["now-sessions"] <= LIMIT
    assert max(gauges.values()) <= 2 * LIMIT  # in use, and kept for their owners
    assert len(bench.timers) < 100
