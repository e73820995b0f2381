"""Kills processes with labs of containers at random moments, and counts what is left.

    python container_rounds.py ROUNDS SEED

Prints one JSON object; the containers are counted by whoever calls it. One in three labs is known
to run when it is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from lab_topologies import container, link

from testbed.lab import Lab
from testbed.topology.model import Node, Topology

_PATIENCE = 60.0
_MARK = "TESTBED_ROUND"


def live() -> None:
    """A lab with two containers, until something ends it."""
    topology = Topology(
        name="mortal",
        nodes={"a": container(name="a"), "b": container(name="b"), "c": Node(name="c")},
        links=(link("a:eth0", "b:eth0", emulated=True), link("b:eth1", "c:eth0")),
    )
    with Lab(topology) as lab:
        lab["a"].start(["sleep", "1000"])
        lab["c"].start(["sleep", "1000"])
        sys.stdout.write("running\n")
        sys.stdout.flush()
        time.sleep(1000)


def processes(mark: str) -> list[str]:
    """The commands of all that was started with this mark in its environment, and lives."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_text())
    return found


def main() -> None:
    if sys.argv[1] == "live":
        live()
        return
    rounds, chance = int(sys.argv[1]), random.Random(int(sys.argv[2]))
    mark = f"{_MARK}={os.getpid()}"
    building, while_running = 1.0, 0
    for number in range(rounds):
        began = time.monotonic()
        with subprocess.Popen(
            [sys.executable, __file__, "live"],
            env={**os.environ, _MARK: str(os.getpid())},
            stdout=subprocess.PIPE,
        ) as process:
            if number % 3 == 0:
                while_running += process.stdout.readline() == b"running\n"
                building = time.monotonic() - began
            else:
                time.sleep(chance.uniform(0.2, 1.0) * building)
            process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + _PATIENCE
    while (left := processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    sys.stdout.write(json.dumps({"while_running": while_running, "processes": left}))


if __name__ == "__main__":
    main()
