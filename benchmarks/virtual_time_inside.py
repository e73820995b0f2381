"""What `virtual_time.py` runs inside a kernel: bulk transfers, or how exact it is. Prints JSON.

python benchmarks/virtual_time_inside.py transfers RATE DELAY BYTES FLOWS CONGESTION_CONTROL
python benchmarks/virtual_time_inside.py fast CONGESTION_CONTROL SECONDS
python benchmarks/virtual_time_inside.py exactness
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from testbed import Lab, loads
from testbed.trace import read_trace
from testbed.traffic import stream, transfer

SO_TIMESTAMPNS, SO_SNDBUFFORCE, SO_RCVBUFFORCE = 35, 32, 33
BUFFER = 16 << 20
MS = 1_000_000
FRAME, HEADERS = 1500, 42
SYSCTLS = "{net.ipv4.tcp_rmem: 4096 131072 268435456, net.ipv4.tcp_wmem: 4096 131072 536870912}"
EMULATORS = ("netem", "userspace")


def transfers(rate: str, delay: str, size: str, flows: str, control: str) -> dict[str, float]:
    """All flows at the same time, from a to b; figures of all of them together."""
    own = int(float(size)) // int(flows)
    topology = loads(
        f"{{name: bulk, nodes: {{a: {{congestion_control: {control}}}, "
        f"b: {{congestion_control: {control}}}}}, "
        f"links: [{{endpoints: [a, b], rate: {rate}, delay: {delay}}}]}}"
    )
    with Lab(topology) as lab, ThreadPoolExecutor(int(flows)) as pool:
        lab["a"].ping("b")
        began = time.monotonic()
        started = [
            pool.submit(transfer, lab["a"], lab["b"], own, timeout=3600.0)
            for _ in range(int(flows))
        ]
        done = [one.result() for one in started]
        seconds = time.monotonic() - began
    return {
        "seconds": seconds,
        "packets": sum(one.info.data_segs_out for one in done),
        "retransmissions": sum(one.info.total_retrans for one in done),
        "mbps": 8e-6 * own * int(flows) / seconds,
    }


def fast(control: str, seconds: str) -> dict[str, float]:
    """One stream at 10 Gbit/s over a round trip of 100 ms, in segments of up to 64 KB."""
    topology = loads(f"""
name: fast
emulator: netem
nodes:
  a: {{congestion_control: {control}, sysctls: {SYSCTLS}}}
  b: {{congestion_control: {control}, sysctls: {SYSCTLS}}}
links: [{{endpoints: [a, b], rate: 10gbit, delay: 50ms, offload: true, queue: 2bdp}}]
""")
    with Lab(topology) as lab:
        found = stream(lab["a"], lab["b"], float(seconds), interval=0.1)
    steady = [one for one in found.samples if one.time_ns - found.samples[0].time_ns >= 2e9]
    first, last = steady[0], steady[-1]
    carried = last.info.bytes_acked - first.info.bytes_acked
    return {
        "seconds": found.seconds,
        "packets": last.info.data_segs_out,
        "retransmissions": last.info.total_retrans,
        "mbps": 8e3 * carried / (last.time_ns - first.time_ns),
    }


@contextlib.contextmanager
def running(emulator: str, impairments: str) -> Iterator[Lab]:
    topology = loads(
        f"{{name: exact, emulator: {emulator}, nodes: {{a: {{}}, b: {{}}}},"
        f" links: [{{endpoints: [a, b], {impairments}}}]}}"
    )
    with Lab(topology) as lab:
        lab["a"].ping("b")
        yield lab


def journeys(lab: Lab, count: int, gap: float = 0.0) -> list[tuple[int, int]]:
    """When datagrams were sent and when the kernel had them, ns."""
    found = []
    with (
        lab["a"].socket(kind=socket.SOCK_DGRAM) as sender,
        lab["b"].socket(kind=socket.SOCK_DGRAM) as receiver,
    ):
        receiver.settimeout(10.0)
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
        receiver.bind((lab["b"].address, 5000))
        sender.connect((lab["b"].address, 5000))
        for _ in range(count):
            sender.send(struct.pack("!Q", time.time_ns()) + bytes(FRAME - HEADERS - 8))
            if gap:
                time.sleep(gap)
        for _ in range(count):
            data, ancillary, _, _ = receiver.recvmsg(4096, 100)
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
            found.append((struct.unpack_from("!Q", data)[0], seconds * 1000 * MS + nanoseconds))
    return found


def exactness() -> dict[str, dict[str, float]]:
    """Differences from what was asked for, in ns: median and greatest."""
    found: dict[str, dict[str, float]] = {}

    def note(name: str, errors: list[int]) -> None:
        sizes = [abs(error) for error in errors]
        found[name] = {"median": statistics.median(sizes), "greatest": max(sizes)}

    for emulator in EMULATORS:
        with running(emulator, "delay: 10ms") as lab:
            taken = journeys(lab, 1000, gap=0.001)
        note(f"{emulator}: delay of 10 ms", [there - sent - 10 * MS for sent, there in taken])
        with running(emulator, "rate: 10mbit, queue: {limit: 1000 packets}") as lab:
            taken = journeys(lab, 500)
        each = FRAME * 800
        gaps = [after - before - each for (_, before), (_, after) in pairwise(taken)]
        note(f"{emulator}: 1.2 ms between packets at 10 Mbit/s", gaps)
        waits = [there - taken[0][0] - n * each for n, (_, there) in enumerate(taken, 1)]
        note(f"{emulator}: waiting in a queue, up to 600 ms", waits)
    slept = []
    for _ in range(200):
        began = time.monotonic_ns()
        time.sleep(0.01)
        slept.append(time.monotonic_ns() - began - 10 * MS)
    note("a sleep of 10 ms", slept)
    return found


def time_outs() -> dict[str, list[float]]:
    """Milliseconds between the retransmissions of a segment when the link is cut, and what RFC 6298
    has (section 2 with Linux's variance of at least 200 ms, 5.5): both from one trace."""
    topology = loads(
        "{name: rto, nodes: {a: {}, b: {}}, captures: [a], "
        "links: [{endpoints: [a, b], delay: 25ms}]}"
    )
    with tempfile.TemporaryDirectory() as folder:
        with (
            Lab(topology, captures=Path(folder)) as lab,
            lab["b"].listen(80) as listener,
            lab["a"].socket() as client,
        ):
            lab["a"].set_sysctl("net.ipv4.tcp_early_retrans", 0)  # no tail loss probe
            client.connect((lab["b"].address, 80))
            accepted, _ = listener.accept()
            with accepted:
                for _ in range(50):
                    client.sendall(b"x")
                    accepted.recv(1)
                    time.sleep(0.1)
                lab.link("a", "b").cut()
                client.sendall(b"y")
                time.sleep(30)
            (capture,) = lab.captures.values()
        (connection,) = read_trace(capture.path).connections
        data = [one for one in connection.by_initiator.segments if one.length]
        acknowledged = {one.ack: one.time for one in reversed(connection.by_responder.segments)}
    smoothed = variance = 0.0
    for segment in data:
        if (answered := acknowledged.get(segment.seq + segment.length)) is not None:
            rtt = (answered - segment.time) / MS
            if not smoothed:
                smoothed, variance = rtt, rtt / 2
            variance += (abs(smoothed - rtt) - variance) / 4
            smoothed += (rtt - smoothed) / 8
    rto = smoothed + max(200.0, 4 * variance)
    last = [one.time for one in data if one.seq == data[-1].seq]
    gaps = [(after - before) / MS for before, after in pairwise(last)]
    return {"RFC 6298": [rto * 2**n for n in range(len(gaps))], "Linux": gaps}


def main() -> None:
    what, *words = sys.argv[1:]
    if what == "transfers":
        json.dump(transfers(*words), sys.stdout)
    elif what == "fast":
        json.dump(fast(*words), sys.stdout)
    else:
        json.dump({"errors": exactness(), "time_outs": time_outs()}, sys.stdout)


if __name__ == "__main__":
    main()
