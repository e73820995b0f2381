"""The emulator between real TAP interfaces: what a link does, measured with the kernel's stamps.

Nothing here trusts the clock of a busy machine: delays are compared with those of the same path
without impairments, as medians; rates over hundreds of frames; losses by binomial bounds.
"""

from __future__ import annotations

import math
import os
import select
import socket
import statistics
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from testbed.emulator.counters import DirectionCounters
from testbed.lab import Lab
from testbed.lab.link import Link as RunningLink
from testbed.lab.node import Node as RunningNode
from testbed.topology.model import Endpoint, Link, Node, Topology

PORT = 5000
SO_TIMESTAMPNS = 35
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
UDP_OVER_ETHERNET = 14 + 20 + 8
ALL_PROTOCOLS = 0x0003
EXPERIMENTAL = 0x88B5  # an EtherType for local experiments (IEEE 802)
DEADLINE = 10.0

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
def wire(lab) -> RunningLink:
    """The link, as clean as at first."""
    link = lab.link("a", "b")
    link.set(rate=None, delay=0, loss=0, queue="1000 packets")
    link.restore()
    return link


@pytest.fixture
def udp(lab, wire) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected sender in `a` and a receiver with time stamps in `b`, over a clean link."""
    with (
        lab["a"].socket(kind=socket.SOCK_DGRAM) as sender,
        lab["b"].socket(kind=socket.SOCK_DGRAM) as receiver,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        receiver.settimeout(DEADLINE)
        receiver.bind((lab["b"].address, PORT))
        sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 16 << 20)
        sender.connect((lab["b"].address, PORT))
        yield sender, receiver


def receive(receiver: socket.socket) -> tuple[bytes, int]:
    """A datagram and when the kernel got it, ns of the real-time clock."""
    payload, ancillary, _, _ = receiver.recvmsg(4096, 100)
    seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
    return payload, seconds * 1_000_000_000 + nanoseconds


def one_way_delays(udp, count: int = 40) -> list[float]:
    """Seconds from just before send() to the receiving kernel's stamp, one packet at a time."""
    sender, receiver = udp
    delays = []
    for _ in range(count):
        sent = time.time_ns()
        sender.send(b"x" * 100)
        delays.append((receive(receiver)[1] - sent) / 1e9)
    return delays


@pytest.mark.parametrize("delay", [0.005, 0.020])
def test_delay_is_added_to_what_the_path_takes_anyway(wire, udp, delay):
    plain = one_way_delays(udp)
    wire.set(toward="b", delay=delay)
    delayed = one_way_delays(udp)
    assert min(delayed) >= delay
    noise = 3 * statistics.median(plain) + 0.0005
    assert statistics.median(delayed) == pytest.approx(delay, abs=noise)


def test_each_direction_has_its_own_delay(wire, udp):
    sender, receiver = udp
    wire.set(toward="a", delay=0.050)
    sent = time.time_ns()
    sender.send(b"x")
    _, arrived = receive(receiver)
    assert arrived - sent < 40_000_000
    receiver.sendto(b"y", sender.getsockname())
    sender.settimeout(DEADLINE)
    sender.recv(10)
    assert time.time_ns() - arrived >= 50_000_000


@pytest.mark.parametrize("rate", [1e6, 10e6, 100e6])
def test_rate_is_that_of_the_frames_on_the_wire(wire, udp, rate):
    sender, receiver = udp
    size = 1400
    frame_bits = 8 * (size + UDP_OVER_ETHERNET)
    count = max(30, int(rate * 0.4 / frame_bits))
    wire.set(toward="b", rate=rate, queue="10000 packets")
    for _ in range(count):
        sender.send(bytes(size))
    arrivals = [receive(receiver)[1] for _ in range(count)]
    measured = (count - 1) * frame_bits / ((arrivals[-1] - arrivals[0]) / 1e9)
    assert measured == pytest.approx(rate, rel=0.02)


def test_a_full_queue_delays_by_its_limit_and_drops_the_rest(wire, udp):
    sender, receiver = udp
    wire.set(toward="b", rate=10e6, queue="50 packets")
    before = wire.counters.forward
    sent = time.time_ns()
    for _ in range(200):
        sender.send(bytes(1400))
    frame_time = 8 * (1400 + UDP_OVER_ETHERNET) / 10e6
    arrivals = [receive(receiver)[1] for _ in range(51)]
    after = wire.counters.forward
    assert after.dropped["queue"] - before.dropped["queue"] in range(140, 150)
    assert (arrivals[-1] - sent) / 1e9 == pytest.approx(51 * frame_time, rel=0.1)


def test_loss_is_binomial_and_counted(wire, udp):
    sender, receiver = udp
    wire.set(toward="b", loss=0.1)
    before = wire.counters.forward
    count = 3000
    for number in range(count):
        sender.send(number.to_bytes(4, "big"))
    received = drain(receiver)
    lost = wire.counters.forward.dropped["loss"] - before.dropped["loss"]
    assert received == count - lost
    assert abs(lost - 0.1 * count) < 5 * math.sqrt(count * 0.1 * 0.9)


def drain(receiver: socket.socket, quiet: float = 0.3) -> int:
    """How many datagrams come until none has come for `quiet` seconds."""
    count = 0
    while select.select([receiver], [], [], quiet)[0]:
        receiver.recv(4096)
        count += 1
    return count


def test_cut_and_restore(wire, udp):
    sender, receiver = udp
    wire.cut()
    sender.send(b"lost")
    assert drain(receiver, 0.1) == 0
    wire.restore()
    sender.send(b"arrives")
    assert receive(receiver)[0] == b"arrives"


def await_forward(wire: RunningLink, done: Callable[[DirectionCounters], bool]) -> None:
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


def packet_socket(node: RunningNode, protocol: int) -> socket.socket:
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
    """Goodput of a transfer over 20 Mbit/s is that of full frames, 1448 of 1514 bytes."""
    wire.set(rate=20e6, delay=0.002)
    total = 1_500_000
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
        steady = [mark for mark in marks if mark[1] > total / 5]
    seconds = steady[-1][0] - steady[0][0]
    goodput = 8 * (steady[-1][1] - steady[0][1]) / seconds
    assert goodput == pytest.approx(20e6 * 1448 / 1514, rel=0.03)
