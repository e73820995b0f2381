"""How exact and how fast an emulated link is.

    python benchmarks/emulation.py [--repeats 3] [--seconds 3] [--json]

One link between two hosts of a lab, with the userspace emulator. Every figure is the median of
the repetitions, with the smallest and the largest beside it:

- delay error: packets 10 ms apart; from just before send() to the receiving kernel's stamp, less
  the delay that was set. It contains what the path takes without delay (given first) and both
  wake-ups of the emulator; "handed over late" is the emulator's own account of the second one;
- goodput of one TCP connection under cubic, with and without a rate, beside what the rate has
  room for (1448 bytes of payload in frames of 1514);
- packets of 64 bytes, one way: the highest rate that the sender reached, in steps of
  40,000/s, without one being lost;
- processor time of the emulator per million packets, at several packet rates.

mahimahi would be the peer to compare with, but Debian has no package of it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from testbed.emulator.counters import LinkCounters
from testbed.lab import Lab
from testbed.topology.model import Endpoint, Impairments, Link, Node, Topology

LOAD = str(Path(__file__).with_name("emulation_load.py"))
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
PORT = 5001
GOODPUT_SHARE = 1448 / 1514
SMALL_PAYLOAD = 64 - 14 - 20 - 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each TCP or UDP load")
    parser.add_argument("--packets", type=int, default=300, help="spaced packets per delay")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    runs: dict[str, list[float]] = {}
    for repeat in range(arguments.repeats):
        print(f"repetition {repeat + 1} of {arguments.repeats}", file=sys.stderr)
        for name, value in measure(arguments):
            runs.setdefault(name, []).append(value)
    if arguments.json:
        print(json.dumps({"kernel": os.uname().release, "runs": runs}, indent=2))
    else:
        for name, values in runs.items():
            print(
                f"{name:<52} {statistics.median(values):>10.1f}"
                f"   {min(values):.1f} .. {max(values):.1f}"
            )


def measure(arguments: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """All figures of one repetition, by name; each in a lab of its own."""
    for delay in (0.0, 0.010, 0.050):
        with Lab(topology(Impairments(delay=delay))) as lab:
            yield from delay_errors(lab, delay, arguments.packets)
    for rate in (None, 1e9, 1e8, 1e7, 1e6):
        impaired = Impairments(delay=0.010, rate=rate)
        with Lab(topology(impaired, Impairments(delay=0.010))) as lab:
            yield from goodput(lab, rate, arguments.seconds)
    with Lab(topology(Impairments())) as lab:
        yield "64-byte packets without loss, kpps", lossless_kpps(lab, arguments.seconds / 4)
    for rate in (1_000, 10_000, 40_000):
        with Lab(topology(Impairments(delay=0.010))) as lab:
            yield from processor_time(lab, rate, arguments.seconds)


def topology(forward: Impairments, reverse: Impairments = Impairments()) -> Topology:  # noqa: B008
    ends = (Endpoint("a", "eth0"), Endpoint("b", "eth0"))
    return Topology(
        name="benchmark",
        nodes={name: Node(name=name) for name in ("a", "b")},
        links=(Link(endpoints=ends, forward=forward, reverse=reverse, emulated=True),),
    )


def delay_errors(lab: Lab, delay: float, packets: int) -> Iterator[tuple[str, float]]:
    sender = lab["a"].socket(kind=socket.SOCK_DGRAM)
    receiver = lab["b"].socket(kind=socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    receiver.bind((lab["b"].address, PORT))
    receiver.settimeout(5)
    sender.connect((lab["b"].address, PORT))
    for _ in range(packets):
        sender.send(struct.pack("q", time.time_ns()))
        time.sleep(0.010)
    errors = []
    for _ in range(packets):
        payload, ancillary, _, _ = receiver.recvmsg(100, 100)
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
        (sent,) = struct.unpack("q", payload)
        errors.append((seconds * 10**9 + nanoseconds - sent) / 1000 - delay * 1e6)
    errors.sort()
    what = f"delay error at {delay * 1000:.0f} ms, us" if delay else "path without delay, us"
    yield f"{what}, p50", errors[len(errors) // 2]
    yield f"{what}, p99", errors[len(errors) * 99 // 100]
    if delay:
        lateness = counters(lab).lateness
        yield f"handed over late at {delay * 1000:.0f} ms, us, p50", lateness.p50
        yield f"handed over late at {delay * 1000:.0f} ms, us, p99", lateness.p99


def counters(lab: Lab) -> LinkCounters:
    return lab.link("a", "b").counters


def goodput(lab: Lab, rate: float | None, seconds: float) -> Iterator[tuple[str, float]]:
    address = lab["b"].address
    load = [sys.executable, LOAD]
    sink = lab["b"].start([*load, "sink", address, str(PORT), str(seconds)], listening=PORT)
    source = lab["a"].start([*load, "source", address, str(PORT), str(2 * seconds)])
    sink.wait(seconds + 30)
    measured = json.loads(sink.stdout.read())["mbit_per_s"]
    source.stop()
    if rate is None:
        yield "TCP goodput, no rate, 10 ms each way, Mbit/s", measured
    else:
        ideal = rate / 1e6 * GOODPUT_SHARE
        yield f"TCP goodput at {rate / 1e6:g} Mbit/s, % of {ideal:.2f}", 100 * measured / ideal


def lossless_kpps(lab: Lab, seconds: float) -> float:
    """The highest rate that the sender reached without a packet being lost."""
    receiver = unread(lab)
    best = 0.0
    for wanted in range(40_000, 600_000, 40_000):
        sent, arrived, _ = offered(lab, wanted, seconds, burst=16)
        reached = sent / seconds
        if arrived < sent or reached < 0.9 * wanted:
            break
        best = reached
    receiver.close()
    return best / 1000


def unread(lab: Lab) -> socket.socket:
    """Something for the packets to arrive at."""
    receiver = lab["b"].socket(kind=socket.SOCK_DGRAM)
    receiver.bind((lab["b"].address, PORT))
    return receiver


def offered(lab: Lab, rate: float, seconds: float, burst: int) -> tuple[int, int, float]:
    """Packets sent and handed over, and the emulator's processor time."""
    before = counters(lab)
    numbers = [str(value) for value in (PORT, seconds, rate, SMALL_PAYLOAD, burst)]
    done = lab["a"].run([sys.executable, LOAD, "blast", lab["b"].address, *numbers])
    settle(lambda: counters(lab).forward.packets_in)
    after = counters(lab)
    return (
        json.loads(done.stdout)["sent"],
        after.forward.packets_out - before.forward.packets_out,
        after.cpu_seconds - before.cpu_seconds,
    )


def settle(number: Callable[[], int]) -> None:
    """Return when a number has stopped changing."""
    last = -1
    while (now := number()) != last:
        last = now
        time.sleep(0.05)


def processor_time(lab: Lab, rate: float, seconds: float) -> Iterator[tuple[str, float]]:
    receiver = unread(lab)
    sent, _, used = offered(lab, rate, seconds, burst=1)
    receiver.close()
    yield f"CPU seconds per million packets at {rate / 1000:g} kpps", used / sent * 1e6


if __name__ == "__main__":
    main()
