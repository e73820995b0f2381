"""Two hosts with the TCP of `testbed.transport`, a path between them, and a clock of their own."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from testbed.middlebox.timers import Timer, Timers
from testbed.transport.connection import TcpConnection
from testbed.transport.host import TcpHost, TcpListener
from testbed.transport.settings import TcpSettings
from testbed.wire.packet import OUTSIDE, Packet

A, B = b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02"
PORT = 80


class Seen:
    """A segment on the wire: when, from which host, and a view of it."""

    def __init__(self, at: float, sender: int, data: bytearray) -> None:
        self.at = at
        self.sender = sender
        self.packet = Packet()
        assert self.packet.load(bytearray(data), len(data), OUTSIDE)
        self.flags = self.packet.flags
        self.size = self.packet.end - self.packet.payload
        self.payload = bytes(data[self.packet.payload : self.packet.end])
        self.options = self.packet.options()


Judge = Callable[[Seen], list[float]]
"""From a segment to the extra delays of its copies: `[0.0]` is the path of a perfect network."""


class Pair:
    """Hosts 0 (address A) and 1 (address B); what is on the wire is remembered in `wire`."""

    def __init__(self, *faults: str | None, delay: float = 0.05, seed: int = 1) -> None:
        self.now = 1000.0
        self.timers = Timers(lambda: self.now)
        self.wire: list[Seen] = []
        self.judge: Judge = lambda seen: [0.0]
        self.delay = delay
        bits = random.Random(seed).getrandbits
        self.hosts = [
            TcpHost(Clock(self), self._transmitter(number), bits, mtu=1500, fault=fault)
            for number, fault in enumerate((*faults, None, None)[:2])
        ]

    def _transmitter(self, number: int) -> Callable[[bytearray], None]:
        def transmit(data: bytearray) -> None:
            seen = Seen(self.now, number, data)
            self.wire.append(seen)
            for extra in self.judge(seen):
                arrive = partial(self.arrive, 1 - number, bytearray(data))
                self.timers.call_later(self.delay + extra, arrive)

        return transmit

    def arrive(self, number: int, data: bytearray) -> None:
        packet = Packet()
        if packet.load(data, len(data), OUTSIDE):
            self.hosts[number].receive(packet)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, no longer than until something holds; whether it does."""
        end = self.now + seconds
        while not until():
            due = self.timers.timeout()
            if due is None or self.now + due > end:
                self.now = end
                return until()
            self.now += due
            self.timers.fire()
        return True

    def listen(self, settings: TcpSettings | None = None, backlog: int = 8) -> TcpListener:
        return self.hosts[1].listen(B, PORT, settings or TcpSettings(), backlog)

    def connect(self, settings: TcpSettings | None = None) -> TcpConnection:
        return self.hosts[0].connect((A, 0), (B, PORT), settings or TcpSettings())

    def open(
        self, settings: TcpSettings | None = None, server_settings: TcpSettings | None = None
    ) -> tuple[TcpConnection, TcpConnection]:
        """Both ends of a new connection."""
        listener = self.listen(server_settings)
        client = self.connect(settings)
        assert self.run(100, lambda: bool(listener.ready))
        return client, listener.ready.popleft()

    def transfer(
        self, source: TcpConnection, sink: TcpConnection, data: bytes, seconds: float = 1000.0
    ) -> bytes:
        """Write all, finish, and read until nothing more comes."""
        got, sent = bytearray(), 0

        def step() -> bool:
            nonlocal sent
            if sent < len(data):
                sent += source.write(data[sent:])
                if sent == len(data):
                    source.finish()
            got.extend(sink.read(1 << 20))
            return len(got) >= len(data)

        self.run(seconds, step)
        return bytes(got)

    def of(self, sender: int, *, data: bool = False) -> list[Seen]:
        """What a host has sent; data: only what carries some."""
        return [one for one in self.wire if one.sender == sender and (one.size or not data)]


class Clock:
    """The clock of a pair."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def now(self) -> float:
        return self._pair.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return self._pair.timers.call_later(delay, callback)
