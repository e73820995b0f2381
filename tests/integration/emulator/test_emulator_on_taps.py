"""The emulator between real TAP interfaces: frames of any kind, and interfaces that fail.

What impairments do is tested with either emulator in `tests/integration/links`.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from emulator_of_lab import emulator_of
from msgspec import structs

from testbed.emulator.counters import DirectionCounters
from testbed.lab import Lab
from testbed.lab.link import LabLink
from testbed.lab.node import LabNode
from testbed.topology.model import Endpoint, Link, Node, Topology

SO_SNDBUFFORCE = 32
ALL_PROTOCOLS = 0x0003
EXPERIMENTAL = 0x88B5  # an EtherType for local experiments (IEEE 802)
DEADLINE = 30.0

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="needs root and /dev/net/tun",
)

TOPOLOGY = Topology(
    name="pair",
    nodes={name: Node(name=name) for name in ("a", "b")},
    links=(
        Link(endpoints=(Endpoint("a", "eth0"), Endpoint("b", "eth0")), mtu=9000, emulated=True),
    ),
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(TOPOLOGY) as running:
        yield running


@pytest.fixture
def wire(lab) -> LabLink:
    """The link, as clean as at first."""
    link = lab.link("a", "b")
    link.set(rate=None, delay=0, loss=0, queue="1000 packets")
    link.restore()
    return link


def await_stopped(pid: int) -> None:
    limit = time.monotonic() + DEADLINE
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < limit


def await_forward(wire: LabLink, done: Callable[[DirectionCounters], bool]) -> None:
    """Return when the forward counters are so."""
    limit = time.monotonic() + DEADLINE
    while not done(wire.counters.forward):
        assert time.monotonic() < limit, wire.counters.forward


def test_an_interface_that_is_down_costs_frames_and_nothing_else(lab, wire):
    """Raw frames: nothing that the kernel forgets about a peer when the link goes down matters."""
    before = wire.counters.forward.dropped["tap"]
    frame = ADDRESSES + KIND + b"x" * 50
    with (
        packet_socket(lab["a"], EXPERIMENTAL) as sender,
        packet_socket(lab["b"], EXPERIMENTAL) as receiver,
    ):
        receiver.settimeout(DEADLINE)
        lab["b"].run(["ip", "link", "set", "eth0", "down"])
        try:
            sender.send(frame)
            await_forward(wire, lambda now: now.dropped["tap"] > before)
        finally:
            lab["b"].run(["ip", "link", "set", "eth0", "up"])
    with packet_socket(lab["b"], EXPERIMENTAL) as receiver:
        receiver.settimeout(DEADLINE)
        with packet_socket(lab["a"], EXPERIMENTAL) as sender:
            sender.send(frame)
        assert receiver.recv(100) == frame


def packet_socket(node: LabNode, protocol: int) -> socket.socket:
    """Raw frames of a node's eth0."""
    made = node.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    made.bind(("eth0", protocol))
    return made


ADDRESSES = bytes.fromhex("020000000002020000000001")
KIND = struct.pack("!H", EXPERIMENTAL)


@pytest.mark.parametrize(
    "frame",
    [
        ADDRESSES + KIND,
        ADDRESSES + KIND + os.urandom(46),
        ADDRESSES + KIND + os.urandom(1500),
        ADDRESSES + KIND + os.urandom(9000),
        ADDRESSES + b"\x08\x00" + os.urandom(100),
    ],
    ids=["shortest", "small", "full", "jumbo", "broken IP"],
)
def test_odd_frames_pass_untouched(lab, wire, frame):
    with (
        packet_socket(lab["a"], EXPERIMENTAL) as sender,
        packet_socket(lab["b"], ALL_PROTOCOLS) as receiver,
    ):
        receiver.settimeout(DEADLINE)
        sender.send(frame)
        while receiver.recv(10_000) != frame:
            pass


@pytest.mark.parametrize("tags", [b"\x81\x00\x00\x07", b"\x88\xa8\x00\x09\x81\x00\x00\x07"])
def test_vlan_tags_pass(lab, wire, tags):
    """By their number of bytes: the receiving kernel takes tags off before a socket sees them."""
    before = wire.counters.forward
    with packet_socket(lab["a"], EXPERIMENTAL) as sender:
        sender.send(ADDRESSES + tags + KIND + bytes(46))
    await_forward(wire, lambda now: now.packets_out > before.packets_out)
    after = wire.counters.forward
    passed = after.bytes_out - before.bytes_out
    assert passed == after.bytes_in - before.bytes_in
    assert passed >= len(ADDRESSES + tags + KIND) + 46


def test_an_interface_that_is_deleted_costs_no_processor_time():
    """A descriptor that is readable for ever because it is broken must not be watched."""
    with Lab(TOPOLOGY) as lab:
        wire = lab.link("a", "b")
        lab["b"].run(["ip", "link", "delete", "eth0"])
        with packet_socket(lab["a"], EXPERIMENTAL) as sender:
            sender.send(ADDRESSES + KIND + b"x" * 50)
        await_forward(wire, lambda now: now.dropped["tap"] > 0)
        before = wire.counters.cpu_seconds
        time.sleep(0.3)
        assert wire.counters.cpu_seconds - before < 0.1


def test_tcp_fills_a_limited_link(lab, wire):
    """Goodput of a transfer over 20 Mbit/s is that of full frames, 1448 of 1514 bytes.

    In most of its tenths: what a stall of the machine costs is gone.
    """
    wire.set(rate=20e6, delay=0.002)
    total = 2_000_000
    with lab["b"].listen() as listener, lab["a"].socket() as sender:
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4 << 20)
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        sender.connect(listener.getsockname())
        receiver, _ = listener.accept()
        with receiver:
            sender.sendall(bytes(total))
            received, marks = 0, []
            while received < total:
                received += len(receiver.recv(1 << 16))
                marks.append((time.monotonic(), received))
    tenths = [next(mark for mark in marks if mark[1] >= total * part / 10) for part in range(2, 11)]
    goodput = statistics.median(
        8 * (after - before) / (end - begin) for (begin, before), (end, after) in pairwise(tenths)
    )
    assert goodput == pytest.approx(20e6 * 1448 / 1514, rel=0.03)


def test_frames_that_the_interface_has_no_room_for_are_counted(wire, lab):
    """A stopped emulator reads nothing: what the interface's queue cannot hold is lost."""
    count = 12_000
    before = wire.counters.forward
    pid = emulator_of(lab)
    with packet_socket(lab["a"], EXPERIMENTAL) as sender:
        os.kill(pid, signal.SIGSTOP)
        try:
            await_stopped(pid)
            for number in range(count):
                sender.send(ADDRESSES + KIND + struct.pack("!I", number) + bytes(50))
        finally:
            os.kill(pid, signal.SIGCONT)

    def entered(now: DirectionCounters) -> bool:
        return now.packets_in - before.packets_in >= count

    await_forward(wire, entered)
    await_forward(wire, lambda now: not now.in_flight)
    now = wire.counters.forward
    lost = now.dropped["overflow"] - before.dropped["overflow"]
    assert count - 10_000 <= lost < count
    assert now.packets_in == now.packets_out + sum(now.dropped.values())
    assert now.packets_in - before.packets_in < count + 20  # neighbour discovery and the like


def test_many_links_are_taken_down_many_at_a_time():
    """The kernel waits for each interface, which would otherwise add up."""
    links = 50
    one = Link(endpoints=(Endpoint("a", "eth0"), Endpoint("b", "eth0")), emulated=True)

    def seconds(count: int) -> float:
        made = tuple(
            structs.replace(one, endpoints=tuple(Endpoint(name, f"eth{n}") for name in "ab"))
            for n in range(count)
        )
        running = Lab(structs.replace(TOPOLOGY, links=made)).__enter__()
        began = time.monotonic()
        running.__exit__(None, None, None)
        return time.monotonic() - began

    single = min(seconds(1) for _ in range(3))
    assert min(seconds(links) for _ in range(3)) < single * links / 4
