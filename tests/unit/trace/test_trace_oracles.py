"""Field by field against two other readers: scapy and tshark."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import PcapReader

from testbed.trace import read_trace
from testbed.wire.options import Options

# Given, lest scapy asks the network for them.
MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}

OPTIONS = [
    [],
    [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (7, 0)), ("NOP", None), ("WScale", 7)],
    [("NOP", None), ("NOP", None), ("Timestamp", (4_000_000_000, 3))],
    [("NOP", None), ("NOP", None), ("SAck", (100, 200, 300, 400))],
    [("MSS", 536), ("TFO", (0x01020304, 0x05060708)), ("NOP", None), ("NOP", None)],
    [(253, b"\xf9\x89abcd"), ("EOL", None)],
]


@pytest.fixture
def varied(tmp_path, pcap):
    """200 segments of every kind, IPv4 and IPv6."""
    chance = random.Random(1)
    packets = []
    for number in range(200):
        source, destination = (("a", "b"), ("b", "a"))[number % 2]
        address = {"a": ("10.1.2.3", "fd00::a"), "b": ("192.0.2.9", "fd00::b")}
        header = TCP(
            sport=chance.randrange(1, 65536),
            dport=chance.randrange(1, 65536),
            seq=chance.randrange(2**32),
            ack=chance.randrange(2**32),
            flags=chance.randrange(256),
            window=chance.randrange(65536),
            options=chance.choice(OPTIONS),
        )
        network = (
            IP(src=address[source][0], dst=address[destination][0])
            if chance.random() < 0.7
            else IPv6(src=address[source][1], dst=address[destination][1])
        )
        frame = bytes(
            Ether(**MACS) / network / header / Raw(chance.randbytes(chance.randrange(1400)))
        )
        packets.append((1_700_000_000_000_000_001 + number * 1_234_567, frame))
    path = tmp_path / "varied.pcap"
    path.write_bytes(pcap(packets))
    return path


def test_scapy_reads_the_same_fields(varied):
    trace = read_trace(varied)
    with PcapReader(str(varied)) as reader:
        packets = list(reader)
    assert len(trace.segments) == len(packets) == 200
    for segment, packet in zip(trace.segments, packets, strict=True):
        header, network = packet[TCP], packet[1]
        assert segment.time == int(packet.time * 10**9)
        assert (segment.source.address, segment.source.port) == (network.src, header.sport)
        assert (segment.destination.address, segment.destination.port) == (
            network.dst,
            header.dport,
        )
        assert (segment.seq, segment.ack, segment.window) == (
            header.seq,
            header.ack,
            header.window,
        )
        assert segment.flags == int(header.flags)
        assert segment.payload == bytes(header.payload)
        _compare_options(segment.options, dict(header.options))


def _compare_options(options: Options, oracle: dict) -> None:
    assert options.mss == oracle.get("MSS")
    assert options.window_scale == oracle.get("WScale")
    assert options.timestamps == oracle.get("Timestamp")
    assert options.sack_permitted == ("SAckOK" in oracle)
    assert [edge for block in options.sack for edge in block] == list(oracle.get("SAck", ()))
    if "TFO" in oracle:
        assert options.fast_open == bytes.fromhex("0102030405060708")
    assert dict(options.unknown) == {k: v for k, v in oracle.items() if isinstance(k, int)}
    assert not options.malformed


def test_tshark_reads_the_same_fields(varied, tshark):
    rows = tshark(
        varied, "frame.number", "ip.src", "ipv6.src", "tcp.srcport", "tcp.dstport", "tcp.seq_raw",
        "tcp.ack_raw", "tcp.flags", "tcp.window_size_value", "tcp.len", "tcp.hdr_len",
        "tcp.options.mss_val", "tcp.options.timestamp.tsval", "tcp.options.sack_le", "tcp.options",
    )  # fmt: skip
    segments = read_trace(varied).segments
    assert len(rows) == len(segments)
    for segment, row in zip(segments, rows, strict=True):
        options = segment.options
        v6 = ":" in segment.source.address
        assert row == [
            str(segment.number),
            "" if v6 else segment.source.address,
            segment.source.address if v6 else "",
            str(segment.source.port),
            str(segment.destination.port),
            str(segment.seq),
            str(segment.ack),
            f"0x{segment.flags:04x}",
            str(segment.window),
            str(segment.length),
            str(segment.header_length),
            str(options.mss or ""),
            str(options.timestamps[0]) if options.timestamps else "",
            ",".join(str(left) for left, _ in options.sack),
            segment.raw_options.hex(),
        ]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seq=st.integers(0, 2**32 - 1),
    ack=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 255),
    payload=st.binary(max_size=200),
    time=st.integers(0, 2**32 * 10**9 - 1),
    order=st.sampled_from("<>"),
)
def test_what_is_written_is_read_back(read, pcap, seq, ack, flags, payload, time, order):
    frame = bytes(Ether(**MACS) / IP() / TCP(seq=seq, ack=ack, flags=flags) / payload)
    (segment,) = read(pcap([(time, frame)], order=order)).segments
    assert (segment.seq, segment.ack, segment.flags, segment.payload, segment.time) == (
        seq,
        ack,
        flags,
        payload,
        time,
    )
