"""Steered devices carry packets under load, in order, and lone packets do without them."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
import time

import pytest
from middlebox_path import needs_a_lab

from testbed.kernel.timer import SECOND
from testbed.lab import Lab
from testbed.middlebox.process.output import QUIET
from testbed.scenarios.environment import observe
from testbed.topology.model import Endpoint, Link, Node, Topology

# Several processors are what the virtual clock cannot show.
pytestmark = [needs_a_lab, pytest.mark.smoke]

BURST, ROUNDS = 3000, 12
PORT, SECONDS = 5001, 5.0
SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h
_number = struct.Struct("!I")


def topology(boxes: int = 1) -> Topology:
    names = [f"box{number}" for number in range(boxes)]
    row = ["client", *names, "server"]
    nodes = {name: Node(name=name) for name in ("client", "server")}
    for before, name in zip(row, names, strict=False):
        nodes[name] = Node(name=name, kind="middlebox", outside=before)
    return Topology(
        name="load",
        nodes=nodes,
        links=tuple(
            Link(endpoints=(Endpoint(a, "right"), Endpoint(b, "left")))
            for a, b in itertools.pairwise(row)
        ),
    )


class Flow:
    """Numbered datagrams from client to server."""

    def __init__(self, lab: Lab) -> None:
        self.receiver = lab["server"].socket(kind=socket.SOCK_DGRAM)
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self.receiver.bind((lab["server"].address, PORT))
        self.receiver.settimeout(SECONDS)
        self.sender = lab["client"].socket(kind=socket.SOCK_DGRAM)
        self.sender.connect((lab["server"].address, PORT))
        self.next = 0

    def send(self, count: int) -> None:
        for number in range(self.next, self.next + count):
            self.sender.send(_number.pack(number))
        self.next += count

    def arrived(self, count: int) -> list[int]:
        """The numbers that come next; fewer where no more come for long."""
        found = []
        with contextlib.suppress(TimeoutError):
            while len(found) < count:
                found.append(_number.unpack(self.receiver.recv(100))[0])
        return found

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()


def taken_in(lab: Lab, device: str) -> int:
    """Packets that the engine has sent by a device."""
    text = lab["box0"].run(["cat", "/proc/net/dev"]).stdout
    rows = {row[0]: row for row in map(str.split, text.splitlines())}
    return int(rows[f"{device}:"][2])


def test_bursts_arrive_whole_by_steered_devices_and_lone_packets_directly():
    with Lab(topology()) as lab:
        if lab.steering["the middlebox 'box0'"].startswith("none"):
            pytest.skip(lab.steering["the middlebox 'box0'"])
        flow = Flow(lab)
        for _ in range(ROUNDS):
            flow.send(BURST)
            assert flow.arrived(BURST) == list(range(flow.next - BURST, flow.next))
            time.sleep(2 * QUIET / SECOND)  # the silence after which the box goes back
        assert taken_in(lab, "tun-in-steered") > 0
        before = taken_in(lab, "tun-in"), taken_in(lab, "tun-in-steered")
        flow.send(1)
        assert flow.arrived(1) == [flow.next - 1]
        assert (taken_in(lab, "tun-in"), taken_in(lab, "tun-in-steered")) == (
            before[0] + 1,
            before[1],
        )
        flow.close()


def test_where_no_processor_would_be_left_none_is_taken():
    boxes = len(os.sched_getaffinity(0))
    if boxes > 8:
        pytest.skip("that would be a great lab")
    with Lab(topology(boxes=boxes)) as lab:
        assert all(one.startswith("none") for one in lab.steering.values())
        assert len(lab.steering) == boxes
        assert observe(lab).steering == lab.steering
        flow = Flow(lab)
        flow.send(10)
        assert flow.arrived(10) == list(range(10))
        flow.close()
