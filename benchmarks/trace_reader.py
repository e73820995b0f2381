"""How fast a capture becomes segments and connections, beside tshark and scapy.

    python benchmarks/trace_reader.py [--segments 500000] [--repeats 5]

The capture is made here: many connections with handshake, data, ACKs with timestamps and SACK
blocks, and FINs. Every reader reads the same file; scapy and tshark are given a shorter one,
since only their rate matters. Counted is the CPU time, system calls and child processes
included, of everything from opening the file on: what one core does when nobody else uses it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from testbed.trace import read_trace

_TIMESTAMPS = b"\x01\x01\x08\x0a" + struct.pack("!II", 1000, 2000)
_SACK = b"\x01\x01\x05\x0a" + struct.pack("!II", 1, 1449)
_FIELDS = (
    "frame.number", "frame.time_epoch", "ip.src", "ip.dst", "tcp.srcport", "tcp.dstport",
    "tcp.seq_raw", "tcp.ack_raw", "tcp.flags", "tcp.window_size_value", "tcp.len", "tcp.options",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder, "full.pcap")
        write_capture(full, arguments.segments)
        short = Path(folder, "short.pcap")
        write_capture(short, max(arguments.segments // 50, 1000))
        middle = Path(folder, "middle.pcap")
        write_capture(middle, max(arguments.segments // 5, 1000))
        ours = measure("testbed", read_with_testbed, full, arguments.repeats)
        measure("testbed, with every option parsed", read_options, full, arguments.repeats)
        measure("testbed, with retransmissions", read_directions, full, arguments.repeats)
        if shutil.which("tshark"):
            compare(ours, measure("tshark -T fields", read_with_tshark, middle, 3))
        compare(ours, measure("scapy", read_with_scapy, short, 3))


def write_capture(path: Path, segments: int) -> None:
    """A pcap of about `segments` segments, written in one go."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        records = []
        for number, frame in zip(range(segments), frames(), strict=False):
            stamp = struct.pack("<IIII", 1_700_000_000, number * 1000 % 10**9, *[len(frame)] * 2)
            records.append(stamp + frame)
        file.write(b"".join(records))


def frames() -> Iterator[bytes]:
    """Endless connections of 200 data segments of 1448 bytes, an ACK for every second one."""
    connection = 0
    while True:
        client = (bytes([10, 0, connection >> 8 & 255, connection & 255]), 40_000)
        server = (b"\x0a\x01\x00\x01", 80)
        connection += 1
        yield frame(client, server, 0, 0, 0x02, b"\x02\x04\x05\xb4\x04\x02" + _TIMESTAMPS[2:], b"")
        yield frame(server, client, 0, 1, 0x12, b"\x02\x04\x05\xb4\x04\x02" + _TIMESTAMPS[2:], b"")
        yield frame(client, server, 1, 1, 0x10, _TIMESTAMPS, b"")
        payload = bytes(1448)
        for index in range(200):
            seq = 1 + index * 1448
            yield frame(client, server, seq, 1, 0x10, _TIMESTAMPS, payload)
            if index % 2:
                options = _TIMESTAMPS + (_SACK if index % 10 == 1 else b"")
                yield frame(server, client, 1, seq + 1448, 0x10, options, b"")
        yield frame(client, server, 1 + 200 * 1448, 1, 0x11, _TIMESTAMPS, b"")
        yield frame(server, client, 1, 2 + 200 * 1448, 0x11, _TIMESTAMPS, b"")


def frame(
    source: tuple[bytes, int],
    destination: tuple[bytes, int],
    seq: int,
    ack: int,
    flags: int,
    options: bytes,
    payload: bytes,
) -> bytes:
    """An Ethernet frame; the checksums are left zero, no reader here looks at them."""
    length = 20 + 20 + len(options) + len(payload)
    return b"".join(
        (
            bytes(12),
            b"\x08\x00",
            struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, 64, 6, 0),
            source[0],
            destination[0],
            struct.pack(
                "!HHIIBBHHH",
                *(source[1], destination[1], seq, ack, (20 + len(options)) << 2, flags, 502, 0, 0),
            ),
            options,
            payload,
        )
    )


def read_with_testbed(path: Path) -> int:
    return len(read_trace(path).segments)


def read_options(path: Path) -> int:
    return sum(segment.options.malformed is False for segment in read_trace(path).segments)


def read_directions(path: Path) -> int:
    trace = read_trace(path)
    for connection in trace.connections:
        _ = connection.retransmissions()
    return len(trace.segments)


def read_with_tshark(path: Path) -> int:
    command = ["tshark", "-n", "-r", str(path), "-T", "fields"]
    for field in _FIELDS:
        command += ["-e", field]
    result = subprocess.run(command, check=True, capture_output=True)
    return result.stdout.count(b"\n")


def read_with_scapy(path: Path) -> int:
    from scapy.layers.inet import TCP
    from scapy.layers.l2 import Ether  # noqa: F401  (registers the link type)
    from scapy.utils import PcapReader

    with PcapReader(str(path)) as reader:
        return sum(1 for packet in reader if packet[TCP].options is not None)


def measure(name: str, read: Callable[[Path], int], path: Path, repeats: int) -> float:
    """Median segments per CPU second over `repeats` runs, printed with the spread."""
    rates = []
    for _ in range(repeats):
        begin = sum(os.times()[:4])
        count = read(path)
        rates.append(count / (sum(os.times()[:4]) - begin))
    median = statistics.median(rates)
    print(
        f"{name:36} {median / 1000:8.0f} k segments/s  "
        f"(min {min(rates) / 1000:.0f}, max {max(rates) / 1000:.0f}; {count} segments)"
    )
    sys.stdout.flush()
    return median


def compare(ours: float, theirs: float) -> None:
    print(f"{'':36} {ours / theirs:8.1f} times slower than testbed")


if __name__ == "__main__":
    main()
