"""How fast a capture becomes a table and connections, beside tshark, tcptrace, dpkt and scapy.

    python benchmarks/trace_reader.py [--segments 1000000] [--snap 96] [--repeats 5]

The capture is made here: many connections with handshake, data, ACKs with timestamps and SACK
blocks, and FINs. Every reader reads the same file, the slow ones a shorter one of the same kind,
since only their rate matters. Counted is the CPU time, system calls and child processes
included, of everything from opening the file on: what one core does when nobody else uses it. The
quickest of several runs tells, since other work on the machine only makes things slower; where
there is much of it, compare the ratios, not the rates.
tcptrace is Debian's package, dpkt is among the requirements of `pip install '.[benchmark]'`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
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
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--snap", type=int, default=96, help="bytes that are captured of a packet")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        full, middle, short = (
            write_capture(Path(folder, f"{part}.pcap"), arguments.segments // part, arguments.snap)
            for part in (1, 20, 100)
        )
        repeats = arguments.repeats
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        ours = measure("testbed: table", read_table, full, repeats)
        connected = measure("testbed: table, connections", read_connections, full, repeats)
        measure("testbed: with classes", read_classes, full, repeats)
        command = measure("testbed trace, as a command", run_command, full, repeats)
        measure_memory(full)
        if shutil.which("tcptrace"):
            theirs = measure("tcptrace, as a command", read_with_tcptrace, full, repeats)
            compare(connected, theirs)
            print(f"{'':36} {theirs / command:8.2f} times as fast as `testbed trace`")
        if shutil.which("tshark"):
            compare(ours, measure("tshark -T fields", read_with_tshark, middle, 2))
        if find_spec("dpkt"):
            compare(ours, measure("dpkt, with options", read_with_dpkt, middle, 2))
        compare(ours, measure("scapy", read_with_scapy, short, 2))


def write_capture(path: Path, segments: int, snap: int) -> Path:
    """A pcap of `segments` segments."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, snap, 1))
        for number, frame in zip(range(segments), frames(), strict=False):
            seconds, rest = divmod(number * 1000, 10**9)
            kept = min(snap, len(frame))
            file.write(struct.pack("<IIII", 1_700_000_000 + seconds, rest, kept, len(frame)))
            file.write(frame[:kept])
    return path


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


def read_table(path: Path) -> int:
    return len(read_trace(path).table)


def read_connections(path: Path) -> int:
    trace = read_trace(path)
    assert trace.connections
    return len(trace.table)


def read_classes(path: Path) -> int:
    return len(read_trace(path).classes)


def run_command(path: Path) -> int:
    command = [sys.executable, "-m", "testbed", "trace", str(path), "--json"]
    result = subprocess.run(command, check=True, capture_output=True)
    return int(json.loads(result.stdout)[0]["segments"])


def measure_memory(path: Path) -> None:
    """What the table takes of a process's memory, as the kernel counts it."""
    code = (
        "import re, sys; from testbed.trace import read_trace\n"
        "def most():\n"
        "    return int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "before = most(); trace = read_trace(sys.argv[1])\n"
        "table = sum(v.nbytes for v in vars(trace.table).values() if hasattr(v, 'nbytes'))\n"
        "grown = most() - before; rows = len(trace.table)\n"
        "print(f'{table / rows:.0f} bytes a segment in the table, {grown * 1024 / rows:.0f} at most"
        " while it was read')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True
    )
    print(f"{'memory':36} {result.stdout.decode().strip()}")


def read_with_tcptrace(path: Path) -> int:
    result = subprocess.run(["tcptrace", "-n", str(path)], check=True, capture_output=True)
    (count,) = re.findall(rb"(\d+) TCP packets? traced|(\d+) packets seen", result.stdout)[:1]
    return int(count[0] or count[1])


def read_with_dpkt(path: Path) -> int:
    import dpkt

    found = 0
    with path.open("rb") as file:
        for _, data in dpkt.pcap.Reader(file):
            segment = dpkt.ethernet.Ethernet(data).data.data
            found += isinstance(dpkt.tcp.parse_opts(segment.opts), list)
    return found


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
    """Segments per CPU second in the quickest of `repeats` runs, printed with the slowest."""
    rates = []
    for _ in range(repeats):
        begin = sum(os.times()[:4])
        count = read(path)
        rates.append(count / (sum(os.times()[:4]) - begin))
    print(
        f"{name:36} {max(rates) / 1000:8.0f} k segments/s  "
        f"(slowest {min(rates) / 1000:.0f}; {count} segments)"
    )
    sys.stdout.flush()
    return max(rates)


def compare(ours: float, theirs: float) -> None:
    print(f"{'':36} {ours / theirs:8.1f} times slower than testbed")


if __name__ == "__main__":
    main()
