"""Kills holders of labs at random moments, from inside namespaces of its own.

    python holder_kills.py ROUNDS SEED

Prints one JSON object with what is left. To be run as kill_rounds.py is, which counts for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from kill_rounds import namespaces_left, processes_left

from testbed.errors import LabError
from testbed.living.client import LabClient, node_path
from testbed.living.orders import HolderOrder
from testbed.living.records import find_lab, running_labs, runtime_folder
from testbed.living.starting import start_holder

TOPOLOGY = "docomo"


def while_running(name: str) -> None:
    """A holder with a program in its lab is killed, and the next lab of its name runs."""
    start_holder(HolderOrder(source=TOPOLOGY, name=name))
    client = LabClient.of(name)

    def run() -> None:
        with contextlib.suppress(LabError):
            client.ask("POST", node_path("server", "run"), {"argv": ["sleep", "1000"]})

    program = threading.Thread(target=run)
    program.start()
    while not any(b"sleep" in words for words in commands()):
        time.sleep(0.01)
    os.kill(client.record.pid, signal.SIGKILL)
    os.waitpid(client.record.pid, 0)
    program.join()
    try:
        find_lab(name)
    except LabError as error:
        assert f"(process {client.record.pid}) was killed" in str(error), error
    else:
        raise AssertionError("a dead lab is found")


def while_built(name: str, moment: float) -> bool:
    """A holder is killed `moment` s after it was started; whether its lab was not yet running."""
    told: list[str] = []

    def start() -> None:
        try:
            told.append(start_holder(HolderOrder(source=TOPOLOGY, name=name)))
        except LabError as error:
            told.append(str(error))

    before = children()  # orphans of earlier rounds are ours as well
    starting = threading.Thread(target=start)
    starting.start()
    while not (born := children() - before):
        time.sleep(0.001)
    time.sleep(moment)
    (holder,) = born
    os.kill(holder, signal.SIGKILL)
    starting.join()
    with contextlib.suppress(ChildProcessError):  # those who started it have waited for it
        os.waitpid(holder, 0)
    assert name not in running_labs()
    return told != [name]


def children() -> set[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for path in tasks for pid in path.read_text().split()}


def commands() -> list[bytes]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return found


def main() -> None:
    rounds, seed = (int(word) for word in sys.argv[1:])
    chance = random.Random(seed)
    interfaces = socket.if_nameindex()
    early = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        began = time.monotonic()
        for number in range(rounds):
            if number % 2 == 0:
                began = time.monotonic()
                while_running("same")
            else:
                early += while_built("same", chance.uniform(0, time.monotonic() - began))
        found = {
            "early": early,
            "labs": list(running_labs()),
            "files": [path.name for path in runtime_folder().iterdir()],
        }
    found["processes"] = processes_left()
    found["namespaces"] = namespaces_left()
    found["interfaces"] = sorted(set(socket.if_nameindex()) - set(interfaces))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
