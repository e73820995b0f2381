"""Captures made by hand, byte by byte or with scapy."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from testbed.trace import Connection, Trace, read_trace

# Given, lest scapy asks the network for them.
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}

EPOCH = 1_700_000_000 * 10**9
Stamped = tuple[int, bytes]


def _pcap(
    packets: Iterable[Stamped], *, link: int = 1, order: str = "<", nano: bool = True, snap: int = 0
) -> bytes:
    """A pcap file; `packets` are (ns since the epoch, frame)."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    parts = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, snap or 262144, link)]
    for time, frame in packets:
        seconds, rest = divmod(time, 10**9)
        kept = frame[: snap or None]
        fraction = rest if nano else rest // 1000
        parts.append(struct.pack(f"{order}IIII", seconds, fraction, len(kept), len(frame)) + kept)
    return b"".join(parts)


def _block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + length + body + length


class PcapNg:
    """A pcapng file under construction, one section of one byte order at a time."""

    def __init__(self, order: str = "<") -> None:
        self.data = b""
        self.section(order)

    def section(self, order: str) -> None:
        self.order = order
        self.block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))

    def block(self, kind: int, body: bytes) -> None:
        self.data += _block(self.order, kind, body)

    def interface(
        self, *, link: int = 1, snap: int = 0, resolution: int | None = None, offset: int = 0
    ) -> None:
        body = struct.pack(f"{self.order}HHI", link, 0, snap)
        body += struct.pack(f"{self.order}HH4s", 2, 4, b"eth0")
        if resolution is not None:
            body += struct.pack(f"{self.order}HHB3x", 9, 1, resolution)
        if offset:
            body += struct.pack(f"{self.order}HHq", 14, 8, offset)
        self.block(1, body + bytes(4))

    def packet(self, ticks: int, frame: bytes, *, interface: int = 0) -> None:
        numbers = interface, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame)
        self.block(6, struct.pack(f"{self.order}IIIII", *numbers) + frame)

    def simple_packet(self, frame: bytes) -> None:
        self.block(3, struct.pack(f"{self.order}I", len(frame)) + frame)

    def obsolete_packet(self, ticks: int, frame: bytes, *, interface: int = 0) -> None:
        numbers = interface, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame)
        self.block(2, struct.pack(f"{self.order}HHIIII", *numbers) + frame)


class Talk:
    """Segments between a client and a server; times in ms, sequence numbers relative."""

    def __init__(
        self,
        *,
        client_isn: int = 1000,
        server_isn: int = 9000,
        client: tuple[str, int] = ("10.0.0.1", 40000),
        server: tuple[str, int] = ("10.0.1.1", 80),
    ) -> None:
        self.ends = {True: client, False: server}
        self.isns = {True: client_isn, False: server_isn}
        self.packets: list[Stamped] = []

    def client(self, at: float, flags: str, seq: int, ack: int = 0, size: int = 0, **more) -> None:
        self._say(True, at, flags, seq, ack, size, **more)

    def server(self, at: float, flags: str, seq: int, ack: int = 0, size: int = 0, **more) -> None:
        self._say(False, at, flags, seq, ack, size, **more)

    def handshake(self, at: float = 0.0, rtt: float = 10.0) -> None:
        self.client(at, "S", 0)
        self.server(at + rtt, "SA", 0, 1)
        self.client(at + rtt + 1, "A", 1, 1)

    def again(self, after: float = 0.01, *, ttl: int = 64) -> None:
        """The last packet once more, with fewer hops left perhaps."""
        at, frame = self.packets[-1]
        packet = Ether(frame)
        packet[IP].ttl = ttl
        del packet[IP].chksum
        self.packets.append((at + round(after * 1e6), bytes(packet)))

    def _say(
        self,
        from_client: bool,
        at: float,
        flags: str,
        seq: int,
        ack: int,
        size: int,
        *,
        window: int = 502,
        data: bytes | None = None,
        mss: int = 1460,
        stamps: tuple[int, int] | None = None,
        identification: int | None = None,
        ttl: int = 64,
        options: Sequence[tuple[str, object]] = (),
    ) -> None:
        (source, sport), (destination, dport) = self.ends[from_client], self.ends[not from_client]
        header = TCP(
            sport=sport,
            dport=dport,
            flags=flags,
            seq=(self.isns[from_client] + seq) % 2**32,
            ack=(self.isns[not from_client] + ack) % 2**32 if "A" in flags else 0,
            window=window,
            options=([("MSS", mss)] if "S" in flags else [])
            + ([("Timestamp", stamps)] if stamps else [])
            + list(options),
        )
        payload = data if data is not None else bytes((seq + n) % 251 for n in range(size))
        packet: Packet = Ether(**MACS)
        if identification is None:  # a new one for each packet, as of a host
            identification = len(self.packets) + 1
        packet = packet / IP(src=source, dst=destination, id=identification, ttl=ttl) / header
        frame = bytes(packet / Raw(payload) if payload else packet)
        self.packets.append((EPOCH + round(at * 1e6), frame))


@pytest.fixture
def pcap() -> Callable[..., bytes]:
    return _pcap


@pytest.fixture
def pcapng() -> type[PcapNg]:
    return PcapNg


@pytest.fixture
def talk() -> type[Talk]:
    return Talk


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Trace]:
    """Write bytes, packets or talks to a file and read it back."""

    def read_back(content: bytes | Sequence[Stamped] | Talk, name: str = "a.pcap") -> Trace:
        if isinstance(content, Talk):
            content = content.packets
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else _pcap(sorted(content)))
        return read_trace(path)

    return read_back


@pytest.fixture
def only(read: Callable[..., Trace]) -> Callable[[Talk], Connection]:
    """The one connection of a talk."""

    def read_one(talk: Talk) -> Connection:
        (connection,) = read(talk).connections
        return connection

    return read_one


@pytest.fixture
def tshark() -> Callable[..., list[list[str]]]:
    """Rows of fields as tshark sees a capture file."""
    program = shutil.which("tshark")
    if program is None:
        pytest.skip("tshark is not installed (`make test` installs it)")

    def fields(path: Path, *names: str, filter: str = "", damaged: bool = False) -> list[list[str]]:
        command = [program, "-n", "-r", str(path), "-T", "fields"]
        command += ["-o", "tcp.relative_sequence_numbers:FALSE", "-o", "ip.defragment:FALSE"]
        for name in names:
            command += ["-e", name]
        if filter:
            command += ["-Y", filter]
        result = subprocess.run(command, check=not damaged, capture_output=True, text=True)
        return [line.split("\t") for line in result.stdout.splitlines()]

    return fields
