"""One link between two hosts, under each emulator that this machine has.

In User-Mode Linux by the real clock, where system calls are slow, only the kernel's own runs; by
the virtual clock both do: `make test-virtual`.
"""

from __future__ import annotations

import os
import socket
import statistics
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from testbed.emulator.netem.probe import probe_netem
from testbed.errors import TestbedError
from testbed.kernel.clock import clock_name
from testbed.kernel.namespace import NamespaceThread
from testbed.kernel.uml import boot as uml
from testbed.lab import Lab
from testbed.topology.model import Endpoint, Impairments, Link, Node, Topology

PORT = 5000
DEADLINE = 20.0
SO_TIMESTAMPNS = 35
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
BUFFER = 16 << 20


@pytest.fixture(scope="session", params=["userspace", "netem"])
def emulator(request) -> str:
    if request.param == "userspace":
        if uml.inside() and clock_name() == "real":
            pytest.skip("the userspace emulator is tested outside slow User-Mode Linux")
        if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
            pytest.skip("needs /dev/net/tun")
        return "userspace"
    thread = NamespaceThread()
    try:
        namespace = thread.create_namespace()
        missing = namespace.call(probe_netem).missing
        namespace.close()
    except TestbedError as error:
        pytest.skip(str(error))
    finally:
        thread.close()
    if missing:
        pytest.skip(f"this kernel has no {', '.join(missing)}; `make test-uml` has")
    return "netem"


@pytest.fixture(scope="module")
def lab(emulator) -> Iterator[Lab]:
    ends = (Endpoint("a", "eth0"), Endpoint("b", "eth0"))
    topology = Topology(
        name="wire",
        nodes={"a": Node(name="a"), "b": Node(name="b")},
        links=(Link(endpoints=ends, emulated=True),),
        emulator=emulator,
        seed=0,
    )
    with Lab(topology) as running:
        yield running


class Arrival(NamedTuple):
    """A datagram's number, and when it was sent and received, ns of the real-time clock."""

    number: int
    sent: int
    received: int

    @property
    def delay(self) -> float:
        """Seconds."""
        return (self.received - self.sent) / 1e9


class Wire:
    """The link, from a to b, with a UDP socket at either end."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.link = lab.link("a", "b")
        self.sender, self.receiver = (
            lab["a"].socket(kind=socket.SOCK_DGRAM),
            lab["b"].socket(kind=socket.SOCK_DGRAM),
        )
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self.sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
        self.receiver.bind((lab["b"].address, PORT))
        self.sender.connect((lab["b"].address, PORT))
        self._sent = 0
        self._sent_since = self.counters.packets_in

    def set(self, **changes) -> None:
        """Impairments from a to b."""
        self.link.set(toward="b", **changes)

    def clear(self) -> None:
        fields = Impairments.__struct_fields__
        self.link.restore()
        self.link.set(**{name: getattr(Impairments(), name) for name in fields})

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()

    @property
    def counters(self):
        return self.link.counters.forward

    def send(self, count: int, size: int = 100, start: int = 0) -> None:
        """Numbered datagrams, as fast as they go, with the time of sending in them."""
        for number in range(start, start + count):
            self.sender.send(struct.pack("!IQ", number, time.time_ns()) + bytes(size - 12))
        self._sent += count

    def send_in_vain(self) -> None:
        """A datagram that the link never takes."""
        self.sender.send(bytes(100))

    def flood(self, count: int, gap: float, size: int) -> None:
        """One datagram every `gap` seconds; all that are due when the sender was held up."""
        began = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, began + number * gap - time.monotonic()))
            self.send(1, size, number)

    def pace(self, count: int, gap: float, size: int) -> None:
        """One datagram every `gap` seconds at most, whatever holds the sender up."""
        for number in range(count):
            self.send(1, size, number)
            time.sleep(gap)

    def receive(self, timeout: float = DEADLINE) -> tuple[bytes, int]:
        """A datagram and when the kernel got it, ns of the real-time clock."""
        self.receiver.settimeout(timeout)
        payload, ancillary, _, _ = self.receiver.recvmsg(4096, 100)
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
        return payload, seconds * 1_000_000_000 + nanoseconds

    def receive_all(self) -> list[Arrival]:
        """Everything sent that arrives, when nothing is under way any more.

        The receiver sees no frame whose UDP checksum is wrong.
        """
        self.await_entry()
        limit = time.monotonic() + DEADLINE
        while (now := self.counters).waiting or now.in_flight:
            assert time.monotonic() < limit, now
            time.sleep(0.005)
        found = []
        while True:
            try:
                payload, arrived = self.receive(0.1)
            except TimeoutError:
                return found
            number, sent = struct.unpack_from("!IQ", payload)
            found.append(Arrival(number, sent, arrived))

    def await_entry(self) -> None:
        """Return when the link has taken everything that was sent."""
        limit = time.monotonic() + DEADLINE
        while (now := self.counters).packets_in - self._sent_since < self._sent:
            assert time.monotonic() < limit, now
            time.sleep(0.001)  # by the virtual clock nothing else lets time pass

    def delays(self, count: int = 30, size: int = 100) -> list[float]:
        """Seconds from just before send() to the kernel's stamp, one packet at a time."""
        taken = []
        for number in range(count):
            self.send(1, size, number)
            payload, received = self.receive()
            number, sent = struct.unpack_from("!IQ", payload)
            taken.append(Arrival(number, sent, received).delay)
        return taken


@pytest.fixture
def wire(lab) -> Iterator[Wire]:
    made = Wire(lab)
    made.clear()
    yield made
    made.close()


@pytest.fixture
def plain(wire) -> float:
    """By how much this machine, as busy as it is now, makes packets late, in seconds: what the path
    takes without impairments, and how late three of four timers are at most."""
    wire.delays(5)
    path = statistics.quantiles(wire.delays(40), n=4)[2]
    return path + statistics.quantiles([_timer_lateness() for _ in range(40)], n=4)[2]


def _timer_lateness() -> float:
    began = time.monotonic()
    time.sleep(0.002)
    return time.monotonic() - began - 0.002
