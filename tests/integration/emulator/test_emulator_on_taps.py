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
from collections.abc import Iterator

import pytest
from tap_nodes import EmulatedPair

from testbed.topology.model import Impairments, Queue, QueueLimit

PORT = 5000
SO_TIMESTAMPNS = 35
UDP_OVER_ETHERNET = 14 + 20 + 8
EXPERIMENTAL = 0x88B5  # an EtherType for local experiments (IEEE 802)
DEADLINE = 10.0

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="needs root and /dev/net/tun",
)


@pytest.fixture(scope="module")
def pair() -> Iterator[EmulatedPair]:
    with EmulatedPair(Impairments(), Impairments()) as made:
        yield made


@pytest.fixture
def udp(pair) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected sender in `a` and a receiver with time stamps in `b`, over a clean link."""
    for direction in ("forward", "reverse"):
        pair.emulator.set("wire", direction, Impairments())
    pair.emulator.restore("wire")
    with pair.a.socket() as sender, pair.b.socket() as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        receiver.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        receiver.settimeout(DEADLINE)
        receiver.bind((pair.b.address, PORT))
        sender.setsockopt(socket.SOL_SOCKET, 32, 16 << 20)  # SO_SNDBUFFORCE
        sender.connect((pair.b.address, PORT))
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
def test_delay_is_added_to_what_the_path_takes_anyway(pair, udp, delay):
    plain = one_way_delays(udp)
    pair.emulator.set("wire", "forward", Impairments(delay=delay))
    delayed = one_way_delays(udp)
    assert min(delayed) >= delay
    noise = 3 * statistics.median(plain) + 0.0005
    assert statistics.median(delayed) == pytest.approx(delay, abs=noise)


def test_each_direction_has_its_own_delay(pair, udp):
    sender, receiver = udp
    pair.emulator.set("wire", "reverse", Impairments(delay=0.050))
    sent = time.time_ns()
    sender.send(b"x")
    _, arrived = receive(receiver)
    assert arrived - sent < 40_000_000
    receiver.sendto(b"y", sender.getsockname())
    sender.settimeout(DEADLINE)
    sender.recv(10)
    assert time.time_ns() - arrived >= 50_000_000


@pytest.mark.parametrize("rate", [1e6, 10e6, 100e6])
def test_rate_is_that_of_the_frames_on_the_wire(pair, udp, rate):
    sender, receiver = udp
    size = 1400
    frame_bits = 8 * (size + UDP_OVER_ETHERNET)
    count = max(30, int(rate * 0.4 / frame_bits))
    pair.emulator.set(
        "wire", "forward", Impairments(rate=rate, queue=Queue(limit=QueueLimit(10_000, "packets")))
    )
    for _ in range(count):
        sender.send(bytes(size))
    arrivals = [receive(receiver)[1] for _ in range(count)]
    measured = (count - 1) * frame_bits / ((arrivals[-1] - arrivals[0]) / 1e9)
    assert measured == pytest.approx(rate, rel=0.02)


def test_a_full_queue_delays_by_its_limit_and_drops_the_rest(pair, udp):
    sender, receiver = udp
    pair.emulator.set(
        "wire",
        "forward",
        Impairments(rate=10e6, queue=Queue(limit=QueueLimit(50, "packets"))),
    )
    before = pair.emulator.counters("wire").forward
    sent = time.time_ns()
    for _ in range(200):
        sender.send(bytes(1400))
    frame_time = 8 * (1400 + UDP_OVER_ETHERNET) / 10e6
    arrivals = [receive(receiver)[1] for _ in range(51)]
    after = pair.emulator.counters("wire").forward
    assert after.dropped["queue"] - before.dropped["queue"] in range(140, 150)
    assert (arrivals[-1] - sent) / 1e9 == pytest.approx(51 * frame_time, rel=0.1)


def test_loss_is_binomial_and_counted(pair, udp):
    sender, receiver = udp
    pair.emulator.set("wire", "forward", Impairments(loss=0.1))
    before = pair.emulator.counters("wire").forward
    count = 3000
    for number in range(count):
        sender.send(number.to_bytes(4, "big"))
    received = drain(receiver)
    after = pair.emulator.counters("wire").forward
    lost = after.dropped["loss"] - before.dropped["loss"]
    assert received == count - lost
    assert abs(lost - 0.1 * count) < 5 * math.sqrt(count * 0.1 * 0.9)


def drain(receiver: socket.socket, quiet: float = 0.3) -> int:
    """How many datagrams come until none has come for `quiet` seconds."""
    count = 0
    while select.select([receiver], [], [], quiet)[0]:
        receiver.recv(4096)
        count += 1
    return count


def test_cut_and_restore(pair, udp):
    sender, receiver = udp
    pair.emulator.cut("wire")
    sender.send(b"lost")
    assert drain(receiver, 0.1) == 0
    pair.emulator.restore("wire")
    sender.send(b"arrives")
    assert receive(receiver)[0] == b"arrives"


def test_an_interface_that_is_down_costs_frames_and_nothing_else(pair, udp):
    sender, receiver = udp
    before = pair.emulator.counters("wire").forward
    pair.b.run("ip", "link", "set", "eth0", "down")
    try:
        sender.send(b"refused")
        limit = time.monotonic() + DEADLINE
        while time.monotonic() < limit:
            now = pair.emulator.counters("wire").forward
            if now.dropped["tap"] > before.dropped["tap"]:
                break
        assert now.dropped["tap"] == before.dropped["tap"] + 1
    finally:
        pair.b.run("ip", "link", "set", "eth0", "up")
        pair.b.configure(pair.a)
    sender.send(b"arrives")
    assert receive(receiver)[0] == b"arrives"


def test_odd_frames_pass_untouched(pair):
    """No IP, VLAN tags (single and double), the shortest that TAP takes, jumbo."""
    for node in (pair.a, pair.b):
        node.run("ip", "link", "set", "eth0", "mtu", "9000")
    addresses = bytes.fromhex("020000000002020000000001")
    kind = struct.pack("!H", EXPERIMENTAL)
    with pair.a.packet_socket(EXPERIMENTAL) as sender, pair.b.packet_socket(0x0003) as receiver:
        receiver.settimeout(DEADLINE)
        for frame in (
            addresses + kind,
            addresses + kind + os.urandom(46),
            addresses + kind + os.urandom(1500),
            addresses + kind + os.urandom(9000),
            addresses + b"\x08\x00" + os.urandom(100),
        ):
            sender.send(frame)
            while receiver.recv(10_000) != frame:
                pass
        for tags in (b"\x81\x00\x00\x07", b"\x88\xa8\x00\x09\x81\x00\x00\x07"):
            before = pair.emulator.counters("wire").forward
            sender.send(addresses + tags + kind + bytes(46))
            limit = time.monotonic() + DEADLINE
            while time.monotonic() < limit:
                now = pair.emulator.counters("wire").forward
                if now.packets_out > before.packets_out:
                    break
            assert now.bytes_out - before.bytes_out >= len(addresses + tags + kind) + 46
            assert now.bytes_out - before.bytes_out == now.bytes_in - before.bytes_in


def test_tcp_fills_a_limited_link(pair):
    """Goodput of a transfer over 20 Mbit/s is that of full frames, 1448 of 1514 bytes."""
    for direction in ("forward", "reverse"):
        pair.emulator.set("wire", direction, Impairments(rate=20e6, delay=0.002))
    total = 1_500_000
    with pair.b.socket(socket.SOCK_STREAM) as listener, pair.a.socket(socket.SOCK_STREAM) as sender:
        listener.bind((pair.b.address, 0))
        listener.listen()
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        sender.setsockopt(socket.SOL_SOCKET, 32, 4 << 20)  # SO_SNDBUFFORCE
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
