"""What emulation.py measures of one emulated path, by name."""

from __future__ import annotations

import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from emulation_paths import GRACE, LOAD, PORT, Conditions, EmulatedPath

from testbed.errors import LabError
from testbed.lab import LabNode

SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
MTU, HEADERS, SEGMENT = 1500, 28, 1448  # of UDP over IPv4; of TCP with timestamps
SMALL = 64 - 14 - HEADERS  # payload in a frame of 64 bytes
DELAY = 0.010
DELAYS = (0.0, 0.010, 0.050)
SPACING = 0.010
FULL_QUEUE, QUEUE_RATE, OVERLOAD = 100, 10e6, 1.5
FILLED = 4  # queues' worth of packets, after which it is full for sure: 3, by the overload
PROCESSOR_RATES = (1_000, 10_000, 40_000)
STEP, MOST, ATTEMPTS = 40_000, 600_000, 2


class Emulator(Protocol):
    """Something that makes paths."""

    name: str

    def path(self, conditions: Conditions) -> AbstractContextManager[EmulatedPath]:
        """A path that lasts as long as the block."""


@dataclass(frozen=True)
class Scale:
    """How much is measured: s of each TCP stream, packets per delay, rates in Mbit/s, links that
    are loaded at once. Loads other than TCP streams get a part of the seconds."""

    seconds: float = 10.0
    packets: int = 1000
    rates: tuple[float, ...] = (1, 10, 100, 1000)
    links: int = 20


@dataclass
class Findings:
    """figures: numbers by what they are, in the order measured; samples: what some were made of,
    by the same kind of name."""

    figures: dict[str, float] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.figures[name] = round(value, 4)

    def update(self, other: Findings) -> None:
        self.figures.update(other.figures)
        self.samples.update(other.samples)


def delay(emulator: Emulator, scale: Scale) -> Findings:
    """Spaced packets, from just before send() to the stamp of the receiving kernel."""
    found = Findings()
    for wanted in DELAYS:
        with emulator.path(Conditions(delay=wanted)) as path:
            taken = one_way(path, scale.packets, SPACING, SMALL)
            errors = [1e6 * (received - sent - wanted) for sent, received in taken]
            summarise_delay(found, wanted, errors, path)
    return found


def summarise_delay(
    found: Findings, wanted: float, errors: list[float], path: EmulatedPath
) -> None:
    at = f"at {1000 * wanted:g} ms"
    what = f"delay error {at}, us" if wanted else "path without delay, us"
    found.samples[what] = [round(error, 1) for error in errors]
    sizes = [abs(error) for error in errors]
    found.add(f"{what}, p50", quantile(sizes, 0.50))
    found.add(f"{what}, p99", quantile(sizes, 0.99))
    if not wanted:
        return
    found.add(f"{what}, most early", max(0.0, -min(errors)))
    if lateness := path.lateness():
        found.add(f"handed over late {at}, us, p50", lateness.p50 * 1e6)
        found.add(f"handed over late {at}, us, p99", lateness.p99 * 1e6)


def one_way(
    path: EmulatedPath, count: int, spacing: float, payload: int
) -> list[tuple[float, float]]:
    """When packets were sent and received, in s of one clock, of those that arrived."""
    with stamping(path.far) as receiver:
        lasts = count * spacing
        path.run("pace", PORT, count, spacing, payload, seconds=lasts)
        taken = list(arrivals(receiver))
    if not taken:
        raise LabError(f"None of {count} packets arrived at the far end.")
    return taken


def stamping(node: LabNode) -> socket.socket:
    """A UDP socket whose packets wait in it with the time at which the kernel got them."""
    receiver = node.socket(kind=socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    receiver.bind(("", PORT))
    return receiver


def arrivals(receiver: socket.socket, silence: float = 0.5) -> Iterator[tuple[float, float]]:
    """When packets were sent and received, of all that come until none has for so many s."""
    receiver.settimeout(silence)
    while True:
        try:
            payload, ancillary, _, _ = receiver.recvmsg(2048, 100)
        except TimeoutError:
            return
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
        (sent,) = struct.unpack_from("q", payload)
        # Differences of times since 1970 would be rounded to 0.2 us.
        second = sent // 10**9
        yield (sent - second * 10**9) / 1e9, seconds - second + nanoseconds / 1e9


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def rate(emulator: Emulator, scale: Scale) -> Findings:
    """TCP under a rate, beside what the rate has room for."""
    found = Findings()
    for wanted in scale.rates:
        with emulator.path(Conditions(delay=DELAY, rate=wanted * 1e6)) as path:
            goodput, processor = stream(path, scale.seconds)
        ideal = wanted * SEGMENT / (MTU + path.overhead)
        found.add(f"TCP goodput at {wanted:g} Mbit/s, % of what fits", 100 * goodput / ideal)
        if processor is not None:
            found.add(f"processor at {wanted:g} Mbit/s, %", 100 * processor)
    return found


def stream(path: EmulatedPath, seconds: float) -> tuple[float, float | None]:
    """Goodput in Mbit/s of a connection that sends from the far end to the near one, and the
    share of a processor that the emulator used."""
    argv = [sys.executable, LOAD, "give", "0.0.0.0", str(PORT), str(seconds + GRACE)]
    giver = path.far.start(argv, listening=PORT)
    done = path.run("take", PORT, seconds, seconds=seconds)
    giver.stop()
    share = None if done.cpu is None else done.cpu / seconds
    return done.output["mbit_per_s"], share


def queue(emulator: Emulator, scale: Scale) -> Findings:
    """How long packets wait in a queue that more packets come to than leave it."""
    seconds = max(scale.seconds / 3, 1.0)
    with emulator.path(Conditions(rate=QUEUE_RATE, limit=FULL_QUEUE)) as path:
        each = 8 * (MTU + path.overhead) / QUEUE_RATE
        spacing = each / OVERLOAD
        count = round(seconds / spacing)
        taken = one_way(path, count, spacing, MTU - HEADERS)
    full = taken[round(FILLED * FULL_QUEUE) :]
    waited = [(received - sent) - each for sent, received in full]
    found = Findings()
    of = f"queueing delay, {FULL_QUEUE} packets full, % of limit/rate"
    wanted = FULL_QUEUE * each
    found.add(f"{of}, median", 100 * statistics.median(waited) / wanted)
    found.add(f"{of}, longest", 100 * max(waited) / wanted)
    found.samples["queueing delay of a full queue, us"] = [round(1e6 * one) for one in waited]
    return found


def speed(emulator: Emulator, scale: Scale) -> Findings:
    """TCP without a rate, and how many small packets per second are carried without loss."""
    found = Findings()
    with emulator.path(Conditions(delay=DELAY)) as path:
        goodput, processor = stream(path, scale.seconds)
    found.add(f"TCP goodput, no rate, {1000 * DELAY:g} ms each way, Mbit/s", goodput)
    if processor is not None:
        found.add("processor at no rate, %", 100 * processor)
    with emulator.path(Conditions()) as path:
        found.add("64-byte packets without loss, kpps", lossless(path, scale.seconds / 10) / 1000)
    return found


def lossless(path: EmulatedPath, seconds: float) -> float:
    """The highest rate that the sender reached without a packet being lost, packets/s."""
    best = 0.0
    with unread(path.far):
        for wanted in range(STEP, MOST, STEP):
            for _ in range(ATTEMPTS):
                load = offered(path, wanted, seconds, burst=16)
                if not load.lost:
                    break
            if load.lost or load.sent < 0.9 * wanted * seconds:
                break
            best = load.sent / seconds
    return best


def unread(node: LabNode) -> socket.socket:
    """Something for packets to arrive at."""
    receiver = node.socket(kind=socket.SOCK_DGRAM)
    receiver.bind(("", PORT))
    return receiver


@dataclass(frozen=True)
class Load:
    """Packets that were sent and that did not arrive, and the emulator's processor time in s."""

    sent: int
    lost: int
    cpu: float | None


def offered(path: EmulatedPath, rate: float, seconds: float, burst: int) -> Load:
    before = delivered(path.far)
    done = path.run("blast", PORT, seconds, rate, SMALL, burst, seconds=seconds)
    sent = done.output["sent"]
    settle(lambda: delivered(path.far))
    return Load(sent, sent - (delivered(path.far) - before), done.cpu)


def delivered(node: LabNode) -> int:
    """IPv4 packets that have arrived at a node and are for it (/proc/net/snmp)."""
    lines = node.namespace.call(Path("/proc/thread-self/net/snmp").read_text).splitlines()
    names, values = (line.split() for line in lines if line.startswith("Ip:"))
    return int(values[names.index("InDelivers")])


def settle(number: Callable[[], int]) -> None:
    """Return when a number has stopped changing."""
    last = -1
    while (now := number()) != last:
        last = now
        time.sleep(0.05)


def processor(emulator: Emulator, scale: Scale) -> Findings:
    """What a packet costs at several rates."""
    found = Findings()
    seconds = scale.seconds / 2
    for wanted in PROCESSOR_RATES:
        with emulator.path(Conditions(delay=DELAY)) as path, unread(path.far):
            load = offered(path, wanted, seconds, burst=1)
        if load.cpu is not None and load.sent > load.lost:
            name = f"CPU seconds per million packets at {wanted / 1000:g} kpps"
            found.add(name, load.cpu / (load.sent - load.lost) * 1e6)
    return found


MEASUREMENTS: dict[str, Callable[[Emulator, Scale], Findings]] = {
    each.__name__: each for each in (delay, rate, queue, speed, processor)
}
