"""Whatever a network does to segments, an accelerator delivers every byte once and in order."""

from __future__ import annotations

import heapq
import random
from itertools import count
from typing import Any

import pytest
from box_bench import CLIENT_ISN, SERVER_ISN, Bench, Seen
from packet_bench import IPV4_KEY

from testbed.transport.receiver import Receiver
from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, RST, SYN
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import INSIDE, OUTSIDE, Side, reverse_key

MODULUS = 1 << 32
FIRST, ANSWER = (CLIENT_ISN + 1) % MODULUS, SERVER_ISN + 1
ROUND_TRIP = 0.04


class Ends:
    """A client that keeps sending what is not acknowledged, a server that takes it in.

    Between them and the box packets are lost, delayed and doubled.
    """

    def __init__(self, rng: random.Random, options: dict[str, Any], *, sack: bool, window: int):
        self.rng, self.window, self.sack = rng, window, sack
        self.bench = Bench(("pep", options))
        self.events: list[tuple[float, int, Any]] = []
        self.order = count()
        self.server = Receiver(window)
        self.got = b""
        self.widest = self.acknowledged = 0
        syn = HandshakeOptions(mss=rng.choice([300, 1460]), sack=sack).encode()
        self.to_box(OUTSIDE, SYN, CLIENT_ISN, 0, syn, window=65_535)
        self.to_box(INSIDE, SYN | ACK, SERVER_ISN, FIRST, syn, window=window)
        self.to_box(OUTSIDE, ACK, FIRST, ANSWER)

    def to_box(self, side: Side, flags: int, seq: int, ack: int, *options: bytes, **fields: Any):
        key = IPV4_KEY if side is OUTSIDE else reverse_key(IPV4_KEY)
        known: dict[str, Any] = {"window": 65_535, "options": b"".join(options)} | fields
        data = tcp_segment(key, seq=seq % MODULUS, ack=ack % MODULUS, flags=flags, **known)
        self.take(self.bench.put(side, data))

    def later(self, what: Any) -> None:
        """Lost, or on its way, perhaps twice, perhaps behind others."""
        for _ in range(self.rng.choices([0, 1, 2], [8, 90, 2])[0]):
            delay = ROUND_TRIP / 2 * self.rng.choice([1, 1, 1, 1, 1.5])
            heapq.heappush(self.events, (self.bench.now + delay, next(self.order), what))

    def take(self, seen: list[Seen]) -> None:
        for packet in seen:
            assert packet.right and not packet.flags & RST
            if packet.side is OUTSIDE:
                position = (packet.ack - FIRST) % MODULUS
                self.acknowledged = max(self.acknowledged, position if position < 1 << 31 else 0)
            elif packet.payload or packet.flags & FIN or not packet.flags & SYN:
                self.later(packet)

    def serve(self, packet: Seen) -> None:
        server = self.server
        start = server.taken + (packet.seq - FIRST - server.taken + (1 << 31)) % MODULUS - (1 << 31)
        fin = bool(packet.flags & FIN)
        size = len(packet.payload) + fin
        assert start + len(packet.payload) <= server.edge, "beyond the window"
        self.widest = max(self.widest, len(packet.payload))
        if server.accepts(start, size):
            self.got += server.take(start, packet.payload, fin)
        elif size == 0 and start != server.taken - 1:
            return
        server.edge = max(server.edge, server.taken + self.window)
        blocks = b""
        if self.sack and server.blocks():
            edges = [(FIRST + edge) % MODULUS for block in server.blocks() for edge in block]
            size = 2 + 4 * len(edges)
            blocks = bytes((1, 1, 5, size)) + b"".join(edge.to_bytes(4, "big") for edge in edges)
        ack = FIRST + server.taken
        self.later((INSIDE, ACK, ANSWER, ack, blocks, {"window": self.window}))

    def run(self, data: bytes) -> None:
        """Send it all; the client repeats what the box has not acknowledged."""
        bench, resend = self.bench, 0.0
        while not self.server.finished:
            assert bench.now < 1000 + 600, (len(self.got), self.acknowledged)
            if bench.now >= resend:
                resend = bench.now + 0.3
                start = self.acknowledged
                for at in range(start, min(start + 20_000, len(data) + 1), 1000):
                    piece = data[at : at + 1000]
                    flags = ACK | (FIN if at + 1000 >= len(data) else 0)
                    fields = {"payload": piece}
                    self.later((OUTSIDE, flags, FIRST + at, ANSWER, b"", fields))
            self.take(bench.wait(0.001))
            while self.events and self.events[0][0] <= bench.now:
                what = heapq.heappop(self.events)[2]
                if isinstance(what, Seen):
                    self.serve(what)
                else:
                    side, flags, seq, ack, options, fields = what
                    self.to_box(side, flags, seq, ack, options, **fields)


@pytest.mark.parametrize("control", ["none", "reno"])
@pytest.mark.parametrize("sack", [True, False], ids=["sack", "no sack"])
@pytest.mark.parametrize("window", [200, 3000, 60_000])
@pytest.mark.parametrize("buffer", [4096, 262_144])
def test_every_byte_arrives_once_and_in_order(control, sack, window, buffer):
    rng = random.Random(f"{control} {sack} {window} {buffer}")
    ends = Ends(rng, {"congestion_control": control, "buffer": buffer}, sack=sack, window=window)
    data = rng.randbytes(10_000 if window == 200 else 100_000)
    ends.run(data)
    assert ends.got == data
    function = ends.bench.pipeline.functions["pep"]
    assert function.counters["repeated"] > 0
    assert ends.widest <= min(1460, window)
