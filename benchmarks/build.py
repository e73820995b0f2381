"""How fast labs come up and go down, beside Mininet.

    python benchmarks/build.py [--repeat N] [--only switch|chain|tree] [--json]

Up: from `Lab(topology)` to the answer to a first ping from one end to the other, planning
included. Down: from the end of the `with` block until it is left; freed: until the kernel, which
works in the background, has removed the last interface. Needs root; Mininet (the Debian packages
mininet and bridge-utils) runs in network and mount namespaces of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from testbed.kernel.namespace import NamespaceThread
from testbed.kernel.netlink import rtnetlink, state
from testbed.kernel.netlink.socket import Netlink
from testbed.lab import Lab
from testbed.topology.model import Endpoint, Link, Node, Topology

HOSTS, ROUTERS, MANY, PER_SWITCH = 100, 100, 1000, 50

MININET = """
import json, sys, time
sys.path.insert(0, "/usr/lib/python3/dist-packages")
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topo import SingleSwitchTopo
setLogLevel("critical")
began = time.monotonic()
net = Mininet(topo=SingleSwitchTopo(int(sys.argv[1])), switch=LinuxBridge, controller=None)
net.start()
first, last = net.hosts[0], net.hosts[-1]
while "1 received" not in first.cmd("ping -c 1 -W 1 " + last.IP()):
    pass
up = time.monotonic()
net.stop()
print(json.dumps({"up": up - began, "down": time.monotonic() - up}))
"""

Sample = dict[str, float]


def topology(name: str, kinds: dict[str, str], pairs: list[tuple[str, str]]) -> Topology:
    """Nodes by kind and plain links between them; interfaces are named after the other end."""
    return Topology(
        name=name,
        nodes={node: Node(name=node, kind=kind) for node, kind in kinds.items()},
        links=tuple(Link(endpoints=(Endpoint(a, b), Endpoint(b, a))) for a, b in pairs),
    )


def star(hosts: int) -> tuple[Topology, str, str]:
    """Hosts on one switch, and the first and the last of them."""
    names = [f"h{number}" for number in range(hosts)]
    kinds: dict[str, str] = {"switch": "switch", **dict.fromkeys(names, "host")}
    return topology("star", kinds, [("switch", name) for name in names]), names[0], names[-1]


def chain(routers: int) -> tuple[Topology, str, str]:
    """Routers in a row, and the first and the last of them."""
    names = [f"r{number}" for number in range(routers)]
    kinds: dict[str, str] = dict.fromkeys(names, "router")
    pairs = list(pairwise(names))
    return topology("chain", kinds, pairs), names[0], names[-1]


def tree(hosts: int, per_switch: int) -> tuple[Topology, str, str]:
    """Hosts on switches that hang on one switch."""
    kinds: dict[str, str] = {"root": "switch"}
    pairs = []
    for number in range(hosts):
        leaf = f"s{number // per_switch}"
        if leaf not in kinds:
            kinds[leaf] = "switch"
            pairs.append(("root", leaf))
        kinds[f"h{number}"] = "host"
        pairs.append((leaf, f"h{number}"))
    return topology("tree", kinds, pairs), "h0", f"h{hosts - 1}"


class LastToGo:
    """Tells when the kernel has removed everything that was given up before it was.

    The kernel frees namespaces in the order in which they were given up, with a delay
    (net/core/net_namespace.c, cleanup_net). So this gives up one of its own, and waits until the
    other end of a veth in it is gone.
    """

    def __init__(self) -> None:
        self._thread = NamespaceThread()
        self._watched = self._thread.create_namespace()
        self._netlink = self._watched.call(Netlink)

    def wait(self) -> None:
        last = self._thread.create_namespace()
        ends = [
            rtnetlink.LinkEnd(namespace=one.fileno(), name="end", index=index, mac=mac)
            for one, index, mac in (
                (self._watched, 2, "02:00:00:00:00:01"),
                (last, 3, "02:00:00:00:00:02"),
            )
        ]
        self._netlink.execute([rtnetlink.veth(*ends)])
        self._netlink.subscribe(state.RTNLGRP_LINK)
        self._watched.call(int)  # the thread leaves the one that is to go
        last.close()
        while "end" in state.interfaces(self._netlink):
            self._netlink.wait_for_change(30)


def memory(field: str, file: str) -> int:
    """A field of a /proc file, in bytes."""
    for line in Path(file).read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def measure(described: tuple[Topology, str, str], last_to_go: LastToGo) -> Sample:
    """One lab up and down."""
    what, first, last = described
    available = memory("MemAvailable", "/proc/meminfo")
    worked, began = time.process_time(), time.monotonic()
    with Lab(what) as lab:
        lab[first].ping(lab[last], timeout=10)
        up, cpu = time.monotonic() - began, time.process_time() - worked
        sample = {
            "up": up,
            "nodes_per_second": len(what.nodes) / up,
            "cpu": cpu,
            "resident": memory("VmRSS", "/proc/self/status"),
            "kernel": available - memory("MemAvailable", "/proc/meminfo"),
        }
        leaving = time.monotonic()
    sample["down"] = time.monotonic() - leaving
    last_to_go.wait()
    sample["freed"] = time.monotonic() - leaving
    return sample


def measure_mininet(hosts: int) -> Sample:
    """The same as `star` in Mininet: one Linux bridge, no controller."""
    done = subprocess.run(
        ["unshare", "--net", "--mount", "/usr/bin/python3", "-c", MININET, str(hosts)],
        capture_output=True,
        text=True,
        check=True,
    )
    sample: Sample = json.loads(done.stdout.splitlines()[-1])
    return {**sample, "nodes_per_second": (hosts + 1) / sample["up"]}


def has_mininet() -> bool:
    """Whether Mininet and the program it makes bridges with are installed."""
    return Path("/usr/lib/python3/dist-packages/mininet").is_dir() and bool(shutil.which("brctl"))


def report(name: str, samples: list[Sample]) -> None:
    fields = {key: [sample[key] for sample in samples] for key in samples[0]}
    middle = {key: statistics.median(values) for key, values in fields.items()}
    rate = fields["nodes_per_second"]
    line = f"{name:24} {middle['nodes_per_second']:7.0f} nodes/s ({min(rate):.0f}..{max(rate):.0f})"
    line += f"  up {middle['up']:.3f} s  down {middle['down']:.3f} s"
    if "freed" in middle:
        line += f"  freed {middle['freed']:.2f} s  cpu {middle['cpu']:.3f} s"
        line += f"  resident {middle['resident'] / 2**20:.0f} MiB"
        line += f"  kernel {middle['kernel'] / 2**20:.0f} MiB"
    print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", choices=["switch", "chain", "tree"])
    parser.add_argument("--json", action="store_true", help="print all samples as JSON")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root (Mininet does)")
    last_to_go = LastToGo()
    runs: dict[str, tuple[str, Callable[[], Sample], int]] = {
        f"{HOSTS} hosts, one switch": (
            "switch",
            lambda: measure(star(HOSTS), last_to_go),
            options.repeat,
        ),
        f"Mininet, {HOSTS} hosts": ("switch", lambda: measure_mininet(HOSTS), 3),
        f"chain of {ROUTERS} routers": (
            "chain",
            lambda: measure(chain(ROUTERS), last_to_go),
            options.repeat,
        ),
        f"{MANY} hosts, switches": (
            "tree",
            lambda: measure(tree(MANY, PER_SWITCH), last_to_go),
            2,
        ),
    }
    found: dict[str, list[Sample]] = {}
    for name, (group, once, repeat) in runs.items():
        if options.only not in (None, group):
            continue
        if name.startswith("Mininet") and not has_mininet():
            print("Mininet or brctl is not installed: not measured", file=sys.stderr)
            continue
        found[name] = [once() for _ in range(repeat)]
        if not options.json:
            report(name, found[name])
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
