"""Kills labs at random moments, from inside namespaces of its own, and counts what is left.

    python kill_rounds.py SIGNAL ROUNDS SEED

Prints one JSON object. To be run by `unshare --user --map-root-user --net --pid --fork
--mount-proc`: there, every process, interface and network namespace is one of ours, and the
user namespace's own limit tells exactly how many network namespaces are held.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import random
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path

from lab_topologies import belongings, boxed, since

from testbed.errors import TestbedError
from testbed.kernel.namespace import NamespaceThread
from testbed.lab import Lab

AT_ONCE = 5
NAMESPACE_LIMIT = Path("/proc/sys/user/max_net_namespaces")
PROBES = 10
PATIENCE = 30.0
STARTED, BUILDING, RUNNING, DIRTY = range(4)


def live(state: mmap.mmap, place: int) -> None:
    """One lab with all that a lab can have, until something ends it."""
    before = belongings()
    with contextlib.suppress(KeyboardInterrupt), Lab(boxed(captures=["client", "server"])) as lab:
        lab["server"].start(["sleep", "1000"])
        listener = lab["server"].listen(80)
        client = lab["client"].socket()
        client.connect(listener.getsockname())
        state[place] = RUNNING
        while True:
            client.send(bytes(100))
            time.sleep(0.001)
    deadline = time.monotonic() + PATIENCE / 2
    while any(left := since(before).values()) and time.monotonic() < deadline:
        time.sleep(0.01)  # a thread that was interrupted while it was made ends by itself
    if any(left):
        sys.stderr.write(f"left behind: {since(before)}\n")
        state[place] = DIRTY


def victim(state: mmap.mmap, place: int) -> int:
    state[place] = STARTED
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            state[place] = BUILDING
            live(state, place)
            status = 0
        except Exception:  # noqa: BLE001  (a forked process has nobody to raise it to)
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid


def ends(pid: int, deadline: float) -> bool:
    """Whether the process ends before the deadline."""
    while time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.002)
    return False


def await_stage(state: mmap.mmap, place: int, stage: int) -> None:
    """Return when a victim has come so far; it is not interrupted before it can be."""
    deadline = time.monotonic() + PATIENCE
    while state[place] < stage and time.monotonic() < deadline:
        time.sleep(0.002)


def run(number: int, rounds: int, seed: int) -> dict[str, object]:
    """In every batch one is ended when it has hardly begun, and one when it is known to run.

    How long that took, as busy as the machine is, is the range of the next batch's other moments.
    """
    chance = random.Random(seed)
    building = 0.3
    while_running = hung = dirty = 0
    state = mmap.mmap(-1, AT_ONCE)
    for _ in range(0, rounds, AT_ONCE):
        first, *others, last = pids = [victim(state, place) for place in range(AT_ONCE)]
        for place in range(AT_ONCE):
            await_stage(state, place, BUILDING)
        began = time.monotonic()
        os.kill(first, number)
        for moment, pid in sorted((chance.uniform(0, building), pid) for pid in others):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            os.kill(pid, number)
        await_stage(state, AT_ONCE - 1, RUNNING)
        building = time.monotonic() - began
        os.kill(last, number)
        deadline = time.monotonic() + PATIENCE
        hung += sum(not ends(pid, deadline) for pid in pids)
        while_running += sum(state[place] == RUNNING for place in range(AT_ONCE))
        dirty += sum(state[place] == DIRTY for place in range(AT_ONCE))
    return {"while_running": while_running, "hung": hung, "dirty": dirty}


def processes_left() -> list[str]:
    """The processes besides this one, once the kernel has had time to end them."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        left = [path.name for path in Path("/proc").glob("[0-9]*") if int(path.name) != os.getpid()]
        if not left or time.monotonic() > deadline:
            return [(Path("/proc") / pid / "cmdline").read_text() for pid in left]
        time.sleep(0.01)


def namespaces_left() -> int:
    """How many network namespaces are held besides our own; the kernel frees them by and by."""
    NAMESPACE_LIMIT.write_text(str(PROBES + 1))
    deadline = time.monotonic() + PATIENCE
    while True:
        thread = NamespaceThread()
        made = []
        with contextlib.suppress(TestbedError):
            while True:
                made.append(thread.create_namespace())
        for namespace in made:
            namespace.close()
        thread.close()
        left = PROBES - len(made)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.3)  # those made for this count are being freed, too


def main() -> None:
    number, rounds, seed = (int(word) for word in sys.argv[1:])
    interfaces = socket.if_nameindex()
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        found = run(number, rounds, seed)
        found["files"] = [path.name for path in Path(folder).iterdir()]
    found["processes"] = processes_left()
    found["namespaces"] = namespaces_left()
    found["interfaces"] = sorted(set(socket.if_nameindex()) - set(interfaces))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
