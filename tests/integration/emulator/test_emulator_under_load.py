"""A busy emulator whose frames another processor takes in loses none and keeps their order."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct

import pytest
from emulator_of_lab import emulator_of

from testbed.emulator.userspace import builder
from testbed.kernel.devices.steering import Opened
from testbed.lab import Lab
from testbed.topology.model import Endpoint, Impairments, Link, Node, Topology

PORT = 5000
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
BURSTS, BURST = 10, 6000
ENOUGH = 64 << 20
ALL_PROTOCOLS = 0x0003
LISTENERS = 20  # each gets a copy of every packet

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="needs root and /dev/net/tun",
)


def pair(forward: Impairments, reverse: Impairments) -> Topology:
    ends = (Endpoint("a", "eth0"), Endpoint("b", "eth0"))
    link = Link(endpoints=ends, forward=forward, reverse=reverse, emulated=True)
    nodes = {name: Node(name=name) for name in ("a", "b")}
    return Topology(name="pair", nodes=nodes, links=(link,), emulator="userspace")


@pytest.fixture
def lab():
    with Lab(pair(Impairments(delay=0.005), Impairments())) as running:
        yield running


def flood(lab: Lab) -> list[int]:
    """Bursts for which the emulator has not time until they are complete; what comes of them."""
    with (
        lab["a"].socket(kind=socket.SOCK_DGRAM) as sender,
        lab["b"].socket(kind=socket.SOCK_DGRAM) as receiver,
    ):
        sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, ENOUGH)
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ENOUGH)
        receiver.bind((lab["b"].address, PORT))
        receiver.settimeout(10)
        sender.connect((lab["b"].address, PORT))
        numbers = []
        for start in range(0, BURSTS * BURST, BURST):
            os.kill(emulator_of(lab), signal.SIGSTOP)
            for number in range(start, start + BURST):
                sender.send(struct.pack("!I", number))
            os.kill(emulator_of(lab), signal.SIGCONT)
            numbers += [struct.unpack("!I", receiver.recv(10))[0] for _ in range(BURST)]
        return numbers


def test_what_other_processors_take_in_is_complete_and_in_order(lab):
    """Bursts of several times what waits for a processor before the kernel drops some, and a
    receiver that takes longer for a packet than the emulator."""
    if lab.steering["the link emulator"].startswith("none"):
        pytest.skip(lab.steering["the link emulator"])
    with contextlib.ExitStack() as stack:
        for _ in range(LISTENERS):
            stack.enter_context(
                lab["b"].socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
            )
        assert flood(lab) == list(range(BURSTS * BURST))


def test_a_lab_tells_which_processors_share_the_work(lab):
    told = lab.steering["the link emulator"]
    if len(os.sched_getaffinity(0)) < 2:
        assert told == "none: no processor would be left for the receivers"
    else:
        assert "under load, from processor" in told or told.startswith("none: ")


@pytest.mark.parametrize(
    ("rates", "steered"),
    [((None, None), True), ((2e9, None), True), ((1e9, None), False), ((None, 1e6), False)],
)
def test_only_fast_links_are_steered(monkeypatch, rates, steered):
    """A slow one would have to wake up the other processor for each of its few packets."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    found = []

    def open_steered(open_device, name, index, cpus):
        found.append(tuple(cpus))
        return Opened(open_device(name, index), "this is a test")

    monkeypatch.setattr(builder, "open_steered", open_steered)
    forward, reverse = (Impairments(rate=rate) for rate in rates)
    with Lab(pair(forward, reverse)) as lab:
        told = lab.steering["the link emulator"]
    assert bool(found) is steered
    assert all(len(cpus) == 1 for cpus in found)
    assert told == (
        "none: this is a test" if steered else "none: no link has a rate above 1 Gbit/s, or no rate"
    )
