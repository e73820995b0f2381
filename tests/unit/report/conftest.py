"""Captures made by hand: what two vantages on a path would have seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import PcapWriter

# Given, lest scapy asks the network for them.
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.1.1", 80)
EPOCH = 1_700_000_000


class Recording:
    """One capture under construction; times are in ms, sequence numbers relative."""

    def __init__(
        self,
        path: Path,
        *,
        client_isn: int = 1000,
        server_isn: int = 9000,
        client_port: int = CLIENT[1],
    ) -> None:
        self.path = path
        self._client = (CLIENT[0], client_port)
        self._isns = {True: client_isn, False: server_isn}
        self._sent = {True: 0, False: 0}
        self._packets: list[tuple[float, bytes]] = []

    def client(
        self, at: float, flags: str, seq: int, ack: int = 0, data: bytes = b"", **more: int
    ) -> None:
        self._add(at, flags, seq, ack, data, from_client=True, **more)

    def server(
        self, at: float, flags: str, seq: int, ack: int = 0, data: bytes = b"", **more: int
    ) -> None:
        self._add(at, flags, seq, ack, data, from_client=False, **more)

    def again(self, at: float) -> None:
        """The last packet once more."""
        self._packets.append((at, self._packets[-1][1]))

    def _add(
        self,
        at: float,
        flags: str,
        seq: int,
        ack: int,
        data: bytes,
        *,
        from_client: bool,
        window: int = 8192,
        scale: int | None = None,
    ) -> None:
        source, destination = (self._client, SERVER) if from_client else (SERVER, self._client)
        options = [("MSS", 1460)] if "S" in flags else []
        header = TCP(
            sport=source[1],
            dport=destination[1],
            flags=flags,
            seq=(self._isns[from_client] + seq) % 2**32,
            ack=(self._isns[not from_client] + ack) % 2**32 if "A" in flags else 0,
            window=window,
            options=options + ([("WScale", scale)] if scale is not None else []),
        )
        self._sent[from_client] += 1
        network = IP(src=source[0], dst=destination[0], id=self._sent[from_client])
        packet = Ether(**MACS) / network / header
        self._packets.append((at, bytes(packet / Raw(data) if data else packet)))

    def write(self, *, in_order: bool = True) -> Path:
        packets = sorted(self._packets) if in_order else self._packets
        with PcapWriter(str(self.path), linktype=1, nano=True) as writer:
            writer.write_header(None)
            for at, packet in packets:
                nanoseconds = EPOCH * 10**9 + round(at * 1e6)
                writer.write_packet(packet, sec=nanoseconds // 10**9, usec=nanoseconds % 10**9)
        return self.path


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., Recording]:
    return lambda name, **numbers: Recording(tmp_path / name, **numbers)


@pytest.fixture
def faulty(recording: Callable[..., Recording]) -> tuple[Path, Path]:
    """A proxy answers the SYN, drops the data on the handshake's ACK, forwards its repeat."""
    request, response = b"q" * 512, b"r" * 1024
    gateway = recording("gateway.pcap", server_isn=77_000)
    gateway.client(0.0, "S", 0)
    gateway.server(20.1, "SA", 0, 1)
    gateway.client(20.2, "PA", 1, 1, request)
    gateway.client(1221.4, "PA", 1, 1, request)
    gateway.server(1242.0, "A", 1, 513)
    gateway.server(1242.3, "PA", 1, 513, response)
    gateway.client(1242.4, "A", 513, 1025)
    server = recording("server.pcap", server_isn=9_000)
    server.client(10.3, "S", 0)
    server.server(10.4, "SA", 0, 1)
    server.client(10.6, "A", 1, 1)
    server.client(1231.7, "PA", 1, 1, request)
    server.server(1231.8, "A", 1, 513)
    server.server(1232.1, "PA", 1, 513, response)
    server.client(1252.6, "A", 513, 1025)
    return gateway.write(), server.write()


@pytest.fixture
def healthy(recording: Callable[..., Recording]) -> tuple[Path, Path]:
    """The same without the proxy: everything is forwarded, the data on the ACK included."""
    request, response = b"q" * 512, b"r" * 1024
    gateway, server = recording("gateway-off.pcap"), recording("server-off.pcap")
    for capture, near, far in ((gateway, 0.0, 20.0), (server, 10.0, 10.0)):
        capture.client(0.0 + near, "S", 0)
        capture.server(0.1 + far, "SA", 0, 1)
        capture.client(20.2 + near, "PA", 1, 1, request)
        capture.server(20.3 + far, "A", 1, 513)
        capture.server(20.5 + far, "PA", 1, 513, response)
        capture.client(40.7 + near, "A", 513, 1025)
    return gateway.write(), server.write()
