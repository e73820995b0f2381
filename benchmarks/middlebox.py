"""How fast packets get through a middlebox, beside what one would write without it.

    python benchmarks/middlebox.py [--repeats 3] [--seconds 1] [--only NAME ...] [--json]

A client, a router and a server on plain links: MTU 1500, no offloads, so that every segment is a
packet of its own. The router is, in turn: the kernel alone (the limit), a middlebox without
functions, one with each of a few functions, a forwarder written with scapy, and one with
NetfilterQueue. Measured of each, the median of the repetitions with the smallest and the largest:

- goodput of one TCP connection under cubic;
- packets/s that left the router meanwhile, both directions together;
- small UDP packets/s that left it, at more of them than it can carry;
- processor time of the router's process per packet of the TCP transfer, the kernel's work for it
  included. It is what to compare on a busy machine.

Needs root. The peers need scapy; and NetfilterQueue (`pip install -e .[benchmark]`, built with the
Debian packages python3-dev, gcc and libnetfilter-queue-dev), with nft or iptables to load the rule
that queues packets, whichever the kernel understands. What is missing is left out, and said.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from testbed.errors import TestbedError
from testbed.kernel.processes.process import Process
from testbed.lab import Lab
from testbed.topology.model import Endpoint, FunctionSpec, Link, Node, Topology

HERE = Path(__file__).parent
LOAD = str(HERE / "emulation_load.py")
PEERS = str(HERE / "middlebox_peers.py")
PORT = 5001
SMALL_PAYLOAD, BURST = 22, 16
OFFERED = 400_000
FLOWING = 100  # packets of a load that has begun
START = 5.0  # seconds that it may take to begin
GOODPUT, TCP_RATE, UDP_RATE, PROCESSOR = (
    "TCP goodput, Mbit/s",
    "TCP packets/s",
    "64-byte UDP packets/s",
    "processor, us/packet",
)
KERNEL, PASS_THROUGH = "kernel", "pass-through"

Figures = dict[str, float]


class Case(NamedTuple):
    """One kind of router. functions: None where it is no middlebox; peer: what to run on it."""

    functions: tuple[FunctionSpec, ...] | None = None
    outside: str = "client"
    peer: str | None = None


CASES = {
    KERNEL: Case(),
    PASS_THROUGH: Case(()),
    "setup-proxy": Case((FunctionSpec("setup-proxy", {}),)),
    "nat": Case((FunctionSpec("nat", {}),), outside="server"),
    # Not the timestamps: without them segments have no options to look through.
    "options strip": Case((FunctionSpec("options", {"strip": ["sack"]}),)),
    "scapy": Case(peer="scapy"),
    "NetfilterQueue": Case(peer="netfilterqueue"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each load")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    runs: dict[str, list[Figures]] = {}
    skipped: dict[str, str] = {}
    for repeat in range(arguments.repeats):
        print(f"repetition {repeat + 1} of {arguments.repeats}", file=sys.stderr)
        for name in arguments.only:
            if name not in skipped:
                try:
                    runs.setdefault(name, []).append(measure(CASES[name], arguments.seconds))
                except Unavailable as error:
                    skipped[name] = str(error)
    if arguments.json:
        outcome = {"kernel": os.uname().release, "runs": runs, "skipped": skipped}
        print(json.dumps(outcome, indent=2))
    else:
        show({name: figures for name, figures in runs.items() if figures}, skipped)


class Unavailable(Exception):
    """A peer cannot be had on this machine; says why."""


def measure(case: Case, seconds: float) -> Figures:
    """One repetition of one kind of router, in a lab of its own."""
    with Lab(topology(case)) as lab:
        box = start_peer(lab, case.peer) if case.peer else None
        pid = box.pid if box else engine()
        figures = dict(tcp(lab, pid, seconds))
        figures[UDP_RATE] = udp_rate(lab, seconds)
        if box:
            box.stop()
    return figures


def topology(case: Case) -> Topology:
    sysctls = {"net.ipv4.ip_forward": "0"} if case.peer == "scapy" else {}
    router = Node(name="router", kind="router", sysctls=sysctls)
    if case.functions is not None:
        router = Node(
            name="router", kind="middlebox", outside=case.outside, functions=case.functions
        )
    hosts = {name: Node(name=name, congestion_control="cubic") for name in ("client", "server")}
    return Topology(
        name="benchmark",
        nodes={**hosts, "router": router},
        links=(
            Link(endpoints=(Endpoint("client", "eth0"), Endpoint("router", "left"))),
            Link(endpoints=(Endpoint("router", "right"), Endpoint("server", "eth0"))),
        ),
    )


def start_peer(lab: Lab, peer: str) -> Process:
    """Run a peer's forwarder on the router. Raises Unavailable with what it says."""
    macs = [lab.plan.nodes[name].interfaces[0].mac for name in ("client", "server")]
    argv = [sys.executable, PEERS, peer, "left", "right", *macs]
    try:
        return lab["router"].start(argv, ready_fd=True)
    except TestbedError as error:
        raise Unavailable(str(error).strip().splitlines()[-1].removeprefix("stderr: ")) from error


def engine() -> int | None:
    """The middlebox process that we have started, if there is one."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            command = status.with_name("cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and b"testbed.middlebox.process" in command:
            return int(status.parent.name)
    return None


def tcp(lab: Lab, pid: int | None, seconds: float) -> Iterator[tuple[str, float]]:
    server, client = lab["server"], lab["client"]
    load = [sys.executable, LOAD]
    numbers = [server.address, str(PORT)]
    sink = server.start([*load, "sink", *numbers, str(1.25 * seconds)], listening=PORT)
    source = client.start([*load, "source", *numbers, str(seconds + 5)])
    rate, processor = carried(lab, pid, seconds)
    sink.wait(seconds + 30)
    source.kill()
    yield GOODPUT, json.loads(sink.stdout_text())["mbit_per_s"]
    yield TCP_RATE, rate
    if pid is not None:
        yield PROCESSOR, processor


def udp_rate(lab: Lab, seconds: float) -> float:
    """Packets that leave the router under a load too much for it; nobody reads them."""
    receiver = lab["server"].socket(kind=socket.SOCK_DGRAM)
    receiver.bind((lab["server"].address, PORT))
    numbers = [str(value) for value in (PORT, seconds + 5, OFFERED, SMALL_PAYLOAD, BURST)]
    load = lab["client"].start([sys.executable, LOAD, "blast", lab["server"].address, *numbers])
    rate, _ = carried(lab, None, seconds)
    load.kill()
    receiver.close()
    return rate


def carried(lab: Lab, pid: int | None, seconds: float) -> tuple[float, float]:
    """Packets/s that leave the router once traffic flows; microseconds of processor for each."""
    idle = sent_by(lab) + FLOWING
    end = time.monotonic() + START
    while sent_by(lab) < idle and time.monotonic() < end:
        time.sleep(0.01)
    began, packets, used = time.monotonic(), sent_by(lab), processor_seconds(pid)
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    count, used = sent_by(lab) - packets, processor_seconds(pid) - used
    return count / elapsed, used / max(count, 1) * 1e6


def sent_by(lab: Lab) -> int:
    """Packets that the router's two interfaces have sent so far."""
    text = lab["router"].run(["cat", "/proc/net/dev"]).stdout
    rows = {row[0]: row for row in map(str.split, text.splitlines())}
    return sum(int(rows[f"{name}:"][10]) for name in ("left", "right"))


def processor_seconds(pid: int | None) -> float:
    """User and system time of a process (proc(5), /proc/pid/stat)."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(runs: dict[str, list[Figures]], skipped: dict[str, str]) -> None:
    for what in (GOODPUT, TCP_RATE, UDP_RATE, PROCESSOR):
        print(f"{what:<24} {'median':>10} {'min .. max':>22}  of kernel  of pass-through")
        for name, repeats in runs.items():
            values = [figures[what] for figures in repeats if what in figures]
            if values:
                spread = f"{min(values):,.1f} .. {max(values):,.1f}"
                ratios = [ratio(runs, what, name, peer) for peer in (KERNEL, PASS_THROUGH)]
                print(
                    f"  {name:<22} {statistics.median(values):>10,.1f} {spread:>22}"
                    f"  {ratios[0]:>9}  {ratios[1]:>15}"
                )
        print()
    for name, reason in skipped.items():
        print(f"{name} was left out: {reason}")


def ratio(runs: dict[str, list[Figures]], what: str, name: str, base: str) -> str:
    """The quotient of two medians; empty where there is nothing to divide by."""

    def median(of: str) -> float:
        return statistics.median([one[what] for one in runs.get(of, []) if what in one] or [0.0])

    return f"{median(name) / median(base):.3f}" if median(base) else ""


if __name__ == "__main__":
    main()
