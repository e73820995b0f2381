"""Many links of one lab, all of them loaded at once."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
from contextlib import ExitStack

from emulation_measure import (
    DELAY,
    MTU,
    SEGMENT,
    Findings,
    Scale,
    arrivals,
    quantile,
    stamping,
)
from emulation_paths import ETHERNET, GRACE, LOAD, PORT, Conditions, LabEmulator, impairments

from testbed.lab import Lab

RATE = 10e6
PROBES_PER_SECOND = 20  # on each link
PROBE = 64


def many(emulator: LabEmulator, scale: Scale) -> Findings:
    """TCP over each link at its rate; spaced packets the other way, where nothing waits.

    All streams have one process that sends and one that receives, with sockets of all the nodes:
    a machine with few processors is to be busy with the links.
    """
    pairs = tuple((f"a{number}", f"b{number}") for number in range(scale.links))
    shaped = impairments(Conditions(delay=DELAY, rate=RATE, limit=100))
    with emulator.lab(pairs, shaped, impairments(Conditions(delay=DELAY))) as lab:
        rates, errors = loaded(lab, pairs, scale.seconds)
        lateness = lab.lateness
    found = Findings()
    ideal = RATE / 1e6 * SEGMENT / (MTU + ETHERNET)
    shares = [100 * rate / ideal for rate in rates]
    links = f"{scale.links} links at {RATE / 1e6:g} Mbit/s"
    found.add(f"{links}: TCP goodput, %, median link", statistics.median(shares))
    worst = max(shares, key=lambda share: abs(share - 100))
    found.add(f"{links}: TCP goodput, %, worst link", worst)
    for name, share in (("p50", 0.50), ("p99", 0.99)):
        of_links = [quantile([abs(error) for error in link], share) for link in errors]
        found.add(f"{links}: delay error {name}, us, median link", statistics.median(of_links))
        found.add(f"{links}: delay error {name}, us, worst link", max(of_links))
    if lateness is not None and lateness.packets:
        found.add(f"{links}: handed over late, us, p50", lateness.p50 * 1e6)
        found.add(f"{links}: handed over late, us, p99", lateness.p99 * 1e6)
    found.samples[links] = [
        {
            "link": f"{a}-{b}",
            "goodput_percent": round(share, 2),
            "delay_error_us_p50": round(quantile([abs(x) for x in link], 0.50), 1),
            "delay_error_us_p99": round(quantile([abs(x) for x in link], 0.99), 1),
        }
        for (a, b), share, link in zip(pairs, shares, errors, strict=True)
    ]
    return found


def loaded(
    lab: Lab, pairs: tuple[tuple[str, str], ...], seconds: float
) -> tuple[list[float], list[list[float]]]:
    """Mbit/s of the stream, and errors of the delay in us, of each pair."""
    with ExitStack() as held:
        streams = [connected(held, lab, a, b) for a, b in pairs]
        probes = [probe(held, lab, a, b) for a, b in pairs]
        senders, receivers = zip(*streams, strict=True)
        sources, targets = zip(*probes, strict=True)
        count = max(1, round(seconds * PROBES_PER_SECOND))
        spacing = seconds / count / len(pairs)
        collect = held.enter_context(started("collect-fds", receivers, seconds))
        supply = held.enter_context(started("supply-fds", senders, seconds + GRACE))
        pace = held.enter_context(started("pace-fds", sources, count, spacing, PROBE))
        output, _ = collect.communicate(timeout=seconds + GRACE)
        pace.wait(GRACE)
        supply.terminate()
        errors: list[list[float]] = []
        for target in targets:
            silence = 0.01 if errors else 0.5  # what is under way arrives everywhere meanwhile
            taken = arrivals(target, silence)
            errors.append([1e6 * (received - sent - DELAY) for sent, received in taken])
    return json.loads(output)["each"], errors


def connected(held: ExitStack, lab: Lab, a: str, b: str) -> tuple[socket.socket, socket.socket]:
    """The ends of a TCP connection from node a to b."""
    with lab[b].listen(PORT) as listener:
        sender = held.enter_context(lab[a].socket())
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        sender.connect(listener.getsockname())
        receiver, _ = listener.accept()
    return sender, held.enter_context(receiver)


def probe(held: ExitStack, lab: Lab, a: str, b: str) -> tuple[socket.socket, socket.socket]:
    """Where packets from node b to a are sent, and where they arrive."""
    target = held.enter_context(stamping(lab[a]))
    source = held.enter_context(lab[b].socket(kind=socket.SOCK_DGRAM))
    source.connect((lab[a].address, PORT))
    return source, target


def started(
    program: str, sockets: tuple[socket.socket, ...], *words: object
) -> subprocess.Popen[bytes]:
    """A load with sockets that are here already."""
    numbers = [sock.fileno() for sock in sockets]
    argv = [sys.executable, str(LOAD), program, ",".join(map(str, numbers)), *map(str, words)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, pass_fds=numbers)
