"""The loop that carries frames, and how many it hands over."""

from __future__ import annotations

import os
import socket
import time

import pytest

from testbed.emulator.counters import LatenessHistogram
from testbed.emulator.userspace import messages
from testbed.emulator.userspace.link import EmulatedLink, Workspace
from testbed.emulator.userspace.link_loop import LinkLoop
from testbed.errors import LabError
from testbed.kernel.load_sharing import LoadSharing
from testbed.kernel.placement import Placement
from testbed.topology.model import Impairments


class Load(LoadSharing):
    """Has as much room as the test says."""

    left = 0

    def room(self, packets: int) -> int:
        return min(packets, self.left)

    def handed_over(self, packets: int) -> None:
        self.left -= packets


class Nothing:
    """Something on the agenda that only counts how often it is asked."""

    scheduled = wake = 1 << 62
    asked = 0

    def release(self, now: int) -> None:
        self.asked += 1


def test_an_entry_that_an_earlier_one_has_superseded_is_passed_over():
    loop = LinkLoop(LoadSharing())
    superseded = Nothing()
    superseded.wake = now = time.monotonic_ns()
    loop.schedule(superseded)
    superseded.scheduled = now - 1
    loop._release_due(now)
    assert superseded.asked == 0 and loop._agenda == []


def test_frames_wait_for_room_and_keep_their_order():
    load = Load()
    (outer_a, inner_a), (outer_b, inner_b) = (
        socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)
    )
    link = EmulatedLink(
        "cable",
        (inner_a.fileno(), inner_b.fileno()),
        Impairments(),
        Impairments(),
        0,
        Workspace(LatenessHistogram(), load),
    )
    with outer_a, inner_a, outer_b, inner_b:
        outer_b.setblocking(False)
        for number in range(5):
            outer_a.send(bytes([number]))
        forward = link.directions["forward"]
        assert forward.receive()
        arrived = []
        for room, waiting in ((0, 5), (2, 3), (0, 3), (9, 0)):
            load.left = room
            now = time.monotonic_ns()
            forward.release(now)
            while len(arrived) < 5 - waiting:
                arrived.append(outer_b.recv(10)[0])
            assert forward.chain.counters(now).in_flight == waiting
            assert (forward.wake <= now) == (waiting > 0)
        assert arrived == [0, 1, 2, 3, 4]


def test_a_running_emulator_takes_a_placement_and_refuses_nonsense(emulator, cable):
    with pytest.raises(LabError, match="emulator: "):
        emulator.channel.request(messages.Steer(Placement(0, ("all",))))  # type: ignore[arg-type]
    cpus = os.sched_getaffinity(0)
    emulator.client.steer(Placement(min(cpus), (max(cpus),)))
    cable[0].send(b"x")
    assert cable[1].recv(10) == b"x"
