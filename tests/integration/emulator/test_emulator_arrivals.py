"""A frame's delay begins when it comes, not when the emulator gets round to reading it."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from emulator_of_lab import emulator_of

from testbed.emulator.fate import HEADER
from testbed.kernel.devices import tun
from testbed.kernel.devices.arrival_stamps import stamped
from testbed.kernel.namespace import NamespaceThread
from testbed.lab import Lab
from testbed.topology.model import Endpoint, Impairments, Link, Node, Topology

PORT = 5000
SO_TIMESTAMPNS = 35
MS = 1_000_000
DELAY = 0.3
STALL = 0.2


def can_be_stamped() -> bool:
    thread = NamespaceThread()
    try:
        namespace = thread.create_namespace()
        tap = namespace.call(tun.open_tap, "tap", 10)
        namespace.close()
        with stamped(tap, tap) as rings:
            os.close(tap)
            return rings is not None
    finally:
        thread.close()


pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
        reason="needs root and /dev/net/tun",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def _stamps() -> None:
    if not can_be_stamped():
        pytest.skip("the kernel does not note when frames come: no CAP_BPF")


@pytest.fixture
def lab() -> Iterator[Lab]:
    ends = (Endpoint("a", "eth0"), Endpoint("b", "eth0"))
    link = Link(endpoints=ends, forward=Impairments(delay=DELAY), log=True)
    nodes = {name: Node(name=name) for name in ("a", "b")}
    with Lab(Topology(name="pair", nodes=nodes, links=(link,))) as running:
        yield running


@pytest.fixture
def udp(lab) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected sender in `a`, and a receiver in `b` that knows when the kernel got a packet."""
    with (
        lab["a"].socket(kind=socket.SOCK_DGRAM) as sender,
        lab["b"].socket(kind=socket.SOCK_DGRAM) as receiver,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        receiver.bind((lab["b"].address, PORT))
        receiver.settimeout(10)
        sender.connect((lab["b"].address, PORT))
        yield sender, receiver


def arrival(receiver: socket.socket) -> int:
    """When the next packet came, ns of the real-time clock."""
    _, ancillary, _, _ = receiver.recvmsg(100, 100)
    seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
    return seconds * 1_000_000_000 + nanoseconds


def test_a_stalled_emulator_does_not_make_packets_late_that_are_not_yet_due(lab, udp):
    """As if it had never stopped; it read them 200 ms after they came."""
    sender, receiver = udp
    pid = emulator_of(lab)
    os.kill(pid, signal.SIGSTOP)
    began = time.time_ns()
    for _ in range(3):
        sender.send(b"x" * 100)
    time.sleep(STALL)
    os.kill(pid, signal.SIGCONT)
    for _ in range(3):
        delay = (arrival(receiver) - began) / 1e9
        assert DELAY <= delay < DELAY + STALL / 2


def test_the_log_says_when_they_came(lab, udp):
    sender, receiver = udp
    pid = emulator_of(lab)
    os.kill(pid, signal.SIGSTOP)
    began = time.time_ns()
    sender.send(b"x" * 100)
    sent = time.time_ns()
    time.sleep(STALL)
    os.kill(pid, signal.SIGCONT)
    arrival(receiver)
    assert lab.link("a", "b").counters.forward.packets_out >= 1
    lines = lab.link("a", "b").fates.read_text().splitlines()
    (line,) = (line for line in lines if ",142," in line)
    fate = dict(zip(HEADER.strip().split(","), line.split(","), strict=True))
    assert began - MS <= int(fate["in_ns"]) <= sent + MS
    assert int(fate["due_ns"]) - int(fate["in_ns"]) == DELAY * 1e9


def test_no_packet_is_early(lab, udp):
    """Sent when the emulator is asleep, awake, or in the midst of a burst."""
    sender, receiver = udp
    lab.link("a", "b").set(delay=0.005)
    earliest = 1 << 62
    for burst in (1, 2, 3, 50, 1, 1) * 10:
        began = []
        for _ in range(burst):
            began.append(time.time_ns())
            sender.send(b"x" * 100)
        earliest = min([earliest, *(arrival(receiver) - moment for moment in began)])
    assert earliest >= 5 * MS
