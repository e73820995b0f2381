"""Ten minutes at 50,000 packets a second: nothing leaks, nothing is lost but what was asked for."""

from __future__ import annotations

import math
import os
import socket
import sys
import time
from pathlib import Path

import pytest
from lab_topologies import pair

from testbed.lab import Lab
from testbed.topology.model import Impairments

#: A shorter run by hand: TESTBED_SOAK_SECONDS=20.
SECONDS = float(os.environ.get("TESTBED_SOAK_SECONDS", "600"))
PORT = 5000
RATE = 50_000
LOSS = 0.01
SENDER = """
import socket, sys, time
address, port, seconds, rate = sys.argv[1], *map(int, sys.argv[2:])
sock = socket.socket(type=socket.SOCK_DGRAM)
sock.connect((address, port))
began, turn, sent = time.monotonic(), 0, 0
while (passed := time.monotonic() - began) < seconds:
    # Behind by up to 20 ms it catches up; what the machine stalls for longer is left out.
    due = int(passed * rate)
    turn = max(turn, due - rate // 50)
    while turn < due:
        sock.send(b"x" * 22)
        turn += 1
        sent += 1
    time.sleep(0.0005)
print(sent)
"""


def resident(pid: int) -> int:
    """Bytes of memory that a process has in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 120)
def test_nothing_leaks_and_nothing_is_lost_that_was_not_to_be():
    forward = Impairments(delay=0.01, loss=LOSS)
    with Lab(pair(forward=forward, reverse=Impairments(delay=0.01))) as lab:
        pid = next(process.pid for process, name in lab._runtime._causes if "emulator" in name)
        sink = lab["b"].socket(kind=socket.SOCK_DGRAM)  # nobody reads it: only the link counts
        sink.bind((lab["b"].address, PORT))

        def send(seconds: float) -> int:
            argv = [
                sys.executable,
                "-c",
                SENDER,
                lab["b"].address,
                *map(str, (PORT, seconds, RATE)),
            ]
            return int(lab["a"].run(argv, timeout=seconds + 60).stdout)

        parts = [max(1, int(SECONDS * share)) for share in (0.1, 0.9)]
        sent = send(parts[0])
        before = resident(pid)
        sent += send(parts[1])
        grown = resident(pid) - before
        while (counted := lab.link("a", "b").counters.forward).in_flight:
            time.sleep(0.005)
        statistics = lab["a"].run(["cat", "/sys/class/net/eth0/statistics/tx_dropped"])
    assert sent > 0.8 * RATE * sum(parts)
    assert int(statistics.stdout) == 0
    assert sent <= counted.packets_in < sent + 100  # and what hosts tell each other
    lost = counted.dropped["loss"]
    assert lost == pytest.approx(LOSS * sent, abs=5 * math.sqrt(LOSS * sent))
    assert sum(counted.dropped.values()) == lost
    assert counted.packets_out == counted.packets_in - lost
    assert grown < 8 << 20
