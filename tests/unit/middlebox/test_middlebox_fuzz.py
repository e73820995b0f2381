"""Hostile packets: no crash, no damage, no growth."""

from __future__ import annotations

import random
import struct
from typing import Any
from unittest import mock

from box_bench import CLIENT_ISN, SERVER_ISN, Bench, Dialogue
from hypothesis import given, settings
from hypothesis import strategies as st
from packet_bench import IPV4_KEY, IPV6_KEY, LINUX, checksums_are_right

from testbed.middlebox.functions.setup_proxy import openings
from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.icmp import icmp_error
from testbed.wire.ip import OPAQUE
from testbed.wire.packet import INSIDE, OUTSIDE, Packet, Side, reverse_key

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "handshake_data": st.sampled_from(["drop", "hold"]),
        "early_data": st.sampled_from(["drop", "hold"]),
        "opening": st.sampled_from(["simultaneous", "serial"]),
        "cookies": st.booleans(),
        "bad_cookie": st.sampled_from(["drop", "reset"]),
        "mss": st.sampled_from([None, 88, 500]),
        "window_scale": st.sampled_from(["mirror", "none", 0, 14]),
        "sack": st.booleans(),
        "timestamps": st.booleans(),
        "answer_window": st.sampled_from([0, 65535]),
        "half_open_timeout": st.sampled_from([0.5, 5.0]),
        "half_open_limit": st.sampled_from([1, 3]),
        "connection_limit": st.sampled_from([1, 3]),
    },
)
PROXY_ISN = 0xFFFFFFFE
SIDE = st.sampled_from([OUTSIDE, INSIDE])
NUMBERS = [0, 1, CLIENT_ISN, CLIENT_ISN + 5, PROXY_ISN, PROXY_ISN + 1, SERVER_ISN, 1 << 31]
FLAGS = [0, SYN, SYN | ACK, ACK, RST, RST | ACK, FIN | ACK, SYN | FIN, 0xFF]
FROM_CLIENT: dict[str, Any] = {"seq": CLIENT_ISN + 1, "ack": PROXY_ISN + 1, "flags": ACK}
FROM_SERVER: dict[str, Any] = {"seq": SERVER_ISN + 1, "ack": CLIENT_ISN + 1, "flags": ACK}
TO_CLIENT_OPTIONS = b"\x01\x01\x08\x0a" + bytes(8) + b"\x01\x01\x05\x0a" + bytes(8)
SENSIBLE: list[tuple[Side, dict[str, Any]]] = [
    (OUTSIDE, {"seq": CLIENT_ISN, "flags": SYN, "options": LINUX.encode()}),
    (OUTSIDE, FROM_CLIENT),
    (OUTSIDE, FROM_CLIENT | {"payload": b"request"}),
    (OUTSIDE, FROM_CLIENT | {"payload": bytes(1400)}),
    (OUTSIDE, FROM_CLIENT | {"options": TO_CLIENT_OPTIONS}),
    (OUTSIDE, FROM_CLIENT | {"flags": FIN | ACK}),
    (OUTSIDE, {"seq": CLIENT_ISN + 1, "flags": RST}),
    (INSIDE, FROM_SERVER | {"seq": SERVER_ISN, "flags": SYN | ACK, "options": b"\2\4\2\0"}),
    (INSIDE, FROM_SERVER | {"payload": b"response"}),
    (INSIDE, FROM_SERVER | {"flags": FIN | ACK}),
    (INSIDE, FROM_SERVER | {"flags": RST | ACK}),
]


def step(rng: random.Random) -> tuple[Side, bytes]:
    """A packet of one of two connections, near enough to sense to reach every state."""
    side, fields = rng.choice(SENSIBLE)
    if rng.random() < 0.1:
        fields = fields | {"seq": rng.choice(NUMBERS), "ack": rng.choice(NUMBERS)}
    if rng.random() < 0.05:
        fields = fields | {"flags": rng.choice(FLAGS)}
    if rng.random() < 0.1:
        fields = fields | {"options": rng.randbytes(4 * rng.randrange(11))}
    key = rng.choice([IPV4_KEY, IPV6_KEY])
    data = tcp_segment(key if side is OUTSIDE else reverse_key(key), window=99, **fields)
    if rng.random() < 0.1:
        return rng.choice([OUTSIDE, INSIDE]), harmed(rng, data)
    return side, bytes(data)


def harmed(rng: random.Random, data: bytearray) -> bytes:
    """What is left of a packet, or an error about it."""
    harm = rng.choice(["quote", "cut", "damage", "fragment"])
    if harm == "cut":
        return bytes(data[: rng.randrange(len(data))])
    if harm == "fragment":
        data[6] ^= 0x20
        return bytes(data)
    if harm == "damage":
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data)
    packet = Packet()
    assert packet.load(data, len(data), OUTSIDE)
    four = packet.version == 4
    kind, code = rng.choice([1, 2, 3, 3, 8, 11]), rng.randrange(6)
    return bytes(icmp_error(packet, kind, code, source=bytes(4 if four else 16)))


class Guarded(Bench):
    """Asks of every packet that leaves: if it came in right, is it right?"""

    def put(self, side, data):
        whole = len(data) >= 20 and usable(data)
        sound = whole and checksums_are_right(data)
        seen = super().put(side, data)
        for packet in seen:
            if sound and usable(packet.data):
                assert packet.right, (bytes(data).hex(), packet.data.hex())
        return seen


def usable(data: bytes | bytearray) -> bool:
    packet = Packet()
    loaded = packet.load(bytearray(data), len(data), OUTSIDE)
    return loaded and packet.protocol in (1, 6, 58) and packet.transport in (20, 40)


@settings(max_examples=150, deadline=None)
@given(options=OPTIONS, seed=st.integers(0, 1 << 32))
def test_no_sequence_of_segments_does_harm(options, seed):
    rng = random.Random(seed)
    bench = Guarded(("setup-proxy", options))
    function = bench.pipeline.functions["setup-proxy"]
    for _ in range(100):
        with mock.patch.object(openings, "_initial_sequence_number", lambda: PROXY_ISN):
            bench.put(*step(rng))
        if rng.random() < 0.05:
            for packet in bench.wait(rng.choice([1.1, 70])):
                assert packet.right
        gauges = function.gauges()
        assert gauges["now-opening"] <= options.get("half_open_limit", 16384)
        assert gauges["now-spliced"] <= options.get("connection_limit", 65536)
        assert gauges["now-from-inside"] <= options.get("connection_limit", 65536)
        assert gauges["now-held-bytes"] >= 0
    bench.wait(10_000)
    assert set(function.gauges().values()) == {0}
    assert bench.pipeline.counters().held == 0 and len(bench.timers) == 0


@settings(max_examples=500, deadline=None)
@given(side=SIDE, data=st.binary(max_size=120), first=st.integers(0, 255))
def test_noise_does_no_harm(side, data, first):
    bench = Bench(("setup-proxy", {}))
    bench.put(side, bytes([first]) + data)
    bench.wait(100)


def test_a_flood_of_syns_does_not_push_spliced_connections_out():
    bench = Bench(("setup-proxy", {"half_open_limit": 10, "connection_limit": 10}))
    talk = Dialogue(bench)
    talk.open()
    for port in range(100):
        Dialogue(bench, IPV4_KEY[:8] + struct.pack("!HH", port, 80)).syn()
    (packet,) = talk.from_client(seq=CLIENT_ISN + 1, ack=talk.proxy_isn + 1, flags=ACK)
    assert packet.side is INSIDE


def test_fragments_pass_untouched():
    bench = Bench(("setup-proxy", {}))
    data = tcp_segment(IPV4_KEY, seq=1, flags=SYN)
    data[6] = 0x20
    packet = Packet()
    assert packet.load(bytearray(data), len(data), OUTSIDE) and packet.protocol == OPAQUE
    (seen,) = bench.put(OUTSIDE, data)
    assert seen.side is INSIDE and seen.data[20:] == data[20:]
