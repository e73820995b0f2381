"""A middlebox on the bench: no devices, no process, and a clock that stands still by itself."""

from __future__ import annotations

import gc
import struct
import sys
from types import FunctionType, ModuleType
from typing import Any

from packet_bench import IPV4_KEY, LINUX, checksums_are_right

from testbed.middlebox.process.pipeline import Pipeline
from testbed.middlebox.registry import find
from testbed.middlebox.timers import Timers
from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN, SYN
from testbed.wire.options import HandshakeOptions
from testbed.wire.packet import INSIDE, OUTSIDE, Side, reverse_key

CLIENT_ISN = 0xFFFFFFF0  # wraps within the first bytes
SERVER_ISN = 0x12345678
LINUX_SERVER = HandshakeOptions(mss=1460, window_scale=7, sack=True, timestamps=(777000, 1000))


class Bench:
    """One pipeline between an outside and an inside that only remember what they were sent."""

    def __init__(
        self,
        *functions: tuple[str, dict[str, Any]],
        mtu: int = 1500,
        outside: tuple[str, ...] = (),
    ) -> None:
        self.now = 1000.0
        self.sent: list[tuple[Side, bytearray]] = []
        self.timers = Timers(lambda: self.now)
        addresses = {OUTSIDE: outside, INSIDE: ()}
        self.pipeline = Pipeline(self._send, self.timers, mtu, addresses)
        for name, options in functions:
            self.pipeline.add(find(name), options)

    def _send(self, side: Side, packet: memoryview) -> None:
        self.sent.append((side, bytearray(packet)))

    def put(self, side: Side, data: bytes | bytearray) -> list[Seen]:
        """Let a packet come from `side`; what leaves the box at once."""
        self.sent.clear()
        self.pipeline.receive(side, bytearray(data) + b"\xee" * 8, len(data))
        return self._seen()

    def wait(self, seconds: float) -> list[Seen]:
        """Let time pass; what leaves the box in it."""
        self.sent.clear()
        end = self.now + seconds
        while (due := self.timers.timeout()) is not None and self.now + due <= end:
            self.now += due
            self.timers.fire()
            self.pipeline.send_waiting()
        self.now = end
        return self._seen()

    def _seen(self) -> list[Seen]:
        assert self.pipeline.counters().missing == 0
        return [Seen(side, data) for side, data in self.sent]

    @property
    def dropped(self) -> dict[str, int]:
        return self.pipeline.counters().dropped


class Seen:
    """A packet that left the box, taken apart without the code under test."""

    def __init__(self, side: Side, data: bytearray) -> None:
        self.side = side
        self.data = data
        self.version = data[0] >> 4
        at = 20 if self.version == 4 else 40
        self.key = bytes(data[12:24] if self.version == 4 else data[8:44])
        self.protocol = data[9] if self.version == 4 else data[6]
        self.transport = bytes(data[at:])
        if self.protocol != 6:
            return
        fields = struct.unpack_from("!IIBBHH", self.transport, 4)
        self.seq, self.ack, offset, self.flags, self.window, _ = fields
        self.payload = self.transport[(offset >> 4) * 4 :]
        self.options = parse_options(self.transport[20 : (offset >> 4) * 4])

    def __repr__(self) -> str:
        return f"<{self.side.name} flags={self.flags:#x} seq={self.seq} {len(self.payload)} B>"

    @property
    def right(self) -> bool:
        return checksums_are_right(self.data)


def parse_options(data: bytes) -> dict[int, bytes]:
    found = {}
    while data and data[0] != 0:
        if data[0] == 1:
            data = data[1:]
            continue
        if len(data) < 2 or data[1] < 2:
            break
        found[data[0]] = data[2 : data[1]]
        data = data[data[1] :]
    return found


class Dialogue:
    """A client outside and a server inside, segment by segment, through a bench."""

    def __init__(self, bench: Bench, key: bytes = IPV4_KEY, client: HandshakeOptions = LINUX):
        self.bench = bench
        self.key = key
        self.client = client
        self.proxy_isn = 0

    def from_client(self, **fields: Any) -> list[Seen]:
        return self.bench.put(OUTSIDE, tcp_segment(self.key, **fields))

    def from_server(self, **fields: Any) -> list[Seen]:
        return self.bench.put(INSIDE, tcp_segment(reverse_key(self.key), **fields))

    def syn(self, isn: int = CLIENT_ISN, payload: bytes = b"", window: int = 64240) -> list[Seen]:
        seen = self.from_client(
            seq=isn, flags=SYN, window=window, options=self.client.encode(), payload=payload
        )
        for packet in seen:
            if packet.side is OUTSIDE:
                self.proxy_isn = packet.seq
        return seen

    def third(self, payload: bytes = b"", window: int = 502, fin: bool = False) -> list[Seen]:
        stamps = (1020, self._proxy_clock()) if self.client.timestamps else None
        return self.from_client(
            seq=CLIENT_ISN + 1,
            ack=self.proxy_isn + 1,
            flags=ACK | (FIN if fin else 0),
            window=window,
            options=HandshakeOptions(timestamps=stamps).encode(),
            payload=payload,
        )

    def _proxy_clock(self) -> int:
        return int(self.bench.now * 1000) & 0xFFFFFFFF

    def syn_ack(self, options: HandshakeOptions = LINUX_SERVER, window: int = 65160) -> list[Seen]:
        return self.from_server(
            seq=SERVER_ISN,
            ack=CLIENT_ISN + 1,
            flags=SYN | ACK,
            window=window,
            options=options.encode(),
        )

    def open(self, server: HandshakeOptions = LINUX_SERVER) -> None:
        """Both handshakes, the client's first."""
        self.syn()
        self.third()
        self.syn_ack(server)


def size_of(root: object) -> int:
    """Bytes of all that can be reached from an object, code left aside."""
    seen, waiting, total = set(), [root], 0
    while waiting:
        one = waiting.pop()
        if id(one) not in seen and not isinstance(one, type | ModuleType | FunctionType):
            seen.add(id(one))
            total += sys.getsizeof(one)
            waiting += gc.get_referents(one)
    return total
