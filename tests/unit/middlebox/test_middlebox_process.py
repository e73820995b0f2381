"""The middlebox as a process, with datagram sockets in place of TUN devices."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from box_bench import CLIENT_ISN, SERVER_ISN, Seen
from packet_bench import IPV4_KEY, LINUX

from testbed.errors import LabError, ProcessDied
from testbed.kernel.processes.control import ControlChannel, Descriptor
from testbed.middlebox.client import MiddleboxClient
from testbed.middlebox.messages import SideDevices, Start
from testbed.topology.model import FunctionSpec
from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, SYN
from testbed.wire.packet import INSIDE, OUTSIDE, Side, reverse_key

SECONDS = 20.0
PROXY = FunctionSpec("setup-proxy", {"handshake_data": "drop"})


class Box:
    """A running middlebox process and the far ends of its devices."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        argv = [
            sys.executable,
            "-m",
            "testbed.middlebox.process",
            "--control",
            str(theirs.fileno()),
        ]
        self.process = subprocess.Popen(argv, pass_fds=[theirs.fileno()])
        theirs.close()
        self.channel = ControlChannel(ours, "the middlebox")
        self.client = MiddleboxClient(self.channel)
        self.far: dict[Side, socket.socket] = {}
        self.opened = contextlib.ExitStack()

    def start(self, *functions: FunctionSpec) -> None:
        near: dict[Side, socket.socket] = {}
        for side in Side:
            far, near[side] = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.opened.callback(far.close)
            far.settimeout(SECONDS)
            self.far[side] = far
        with near[OUTSIDE] as one, near[INSIDE] as other:
            outside, inside = (SideDevices(Descriptor(sock.fileno())) for sock in (one, other))
            self.client.start(
                Start(name="router", functions=functions, mtu=1500, outside=outside, inside=inside)
            )

    def send(self, side: Side, **fields: Any) -> None:
        key = IPV4_KEY if side is OUTSIDE else reverse_key(IPV4_KEY)
        self.far[side].send(tcp_segment(key, **fields))

    def receive(self, side: Side) -> Seen:
        return Seen(side, bytearray(self.far[side].recv(65536)))

    def close(self) -> None:
        self.channel.close()
        self.opened.close()
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@pytest.fixture
def box() -> Iterator[Box]:
    made = Box()
    yield made
    made.close()


def test_a_connection_through_the_process(box):
    box.start(PROXY)
    box.send(OUTSIDE, seq=CLIENT_ISN, flags=SYN, options=LINUX.encode())
    answer = box.receive(OUTSIDE)
    assert answer.flags == SYN | ACK and box.receive(INSIDE).flags == SYN
    box.send(INSIDE, seq=SERVER_ISN, ack=CLIENT_ISN + 1, flags=SYN | ACK)
    assert box.receive(INSIDE).flags == ACK
    third = {"seq": CLIENT_ISN + 1, "ack": answer.seq + 1, "flags": ACK, "payload": b"request"}
    box.send(OUTSIDE, **third)
    box.send(OUTSIDE, **third)
    assert box.receive(INSIDE).payload == b"request"
    counters = box.client.counters()
    assert counters.dropped == {"handshake-data": 1} and counters.missing == 0
    assert counters.received["outside"].packets == 3 and counters.sent["inside"].packets == 3
    handle = box.client.function("setup-proxy")
    assert handle.counters()["spliced"] == 1 and handle.counters()["now-spliced"] == 1


def test_timers_run_without_traffic(box):
    box.start(PROXY)
    box.send(OUTSIDE, seq=CLIENT_ISN, flags=SYN)
    assert [box.receive(INSIDE).flags for _ in range(2)] == [SYN, SYN]
    assert box.client.function("setup-proxy").counters()["calls-repeated"] >= 1


def test_functions_are_switched_set_and_read_back(box):
    box.start(PROXY)
    handle = box.client.function("setup-proxy")
    assert handle.enabled and handle.options["handshake_data"] == "drop"
    handle.disable()
    assert not handle.enabled
    handle.set(handshake_data="hold", half_open_timeout=5)
    assert handle.options["handshake_data"] == "hold" and handle.options["half_open_timeout"] == 5
    box.send(OUTSIDE, seq=CLIENT_ISN, flags=SYN)
    assert box.receive(INSIDE).flags == SYN
    assert box.client.counters().created == 0
    handle.enable()
    assert handle.enabled
    assert list(box.client.functions()) == ["setup-proxy"]


def test_an_option_is_set_as_text_with_a_unit_or_as_a_number(box):
    box.start(FunctionSpec("nat", {"idle_timeout": 2.0}))
    nat = box.client.function("nat")
    for given, seconds in (("5s", 5.0), ("2min", 120.0), (7, 7.0)):
        nat.set(idle_timeout=given)
        assert nat.options["idle_timeout"] == seconds
    with pytest.raises(LabError, match=r"nat.idle_timeout: expected a duration.*got 'soon'"):
        nat.set(idle_timeout="soon")
    assert nat.options["idle_timeout"] == 7.0


def test_refusals_say_what_there_is(box):
    with pytest.raises(LabError, match="not started yet"):
        box.client.counters()
    with pytest.raises(LabError, match=r"no middlebox function 'setup_proxy'.*did you mean"):
        box.start(FunctionSpec("setup_proxy"))
    with pytest.raises(LabError, match="handshake_data"):
        box.start(FunctionSpec("setup-proxy", {"handshake_data": "keep"}))
    box.start(PROXY)
    with pytest.raises(LabError, match="started already"):
        box.start(PROXY)
    with pytest.raises(LabError, match=r"no function 'setup-prox'; .*did you mean 'setup-proxy'"):
        box.client.function("setup-prox")
    handle = box.client.function("setup-proxy")
    with pytest.raises(LabError, match=r"setup-proxy has no option .mms.; did you mean .mss."):
        handle.set(mms=1000)
    with pytest.raises(LabError, match=r"setup-proxy.mss: expected a whole number from 88"):
        handle.set(mss=1)
    assert handle.options["mss"] is None


def test_it_keeps_no_privileges(box):
    box.start(PROXY)
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{box.process.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_it_holds_no_descriptors_of_refused_starts(box):
    def count() -> int:
        return len(list(Path(f"/proc/{box.process.pid}/fd").iterdir()))

    with pytest.raises(LabError):  # answered, so it is up
        box.start(FunctionSpec("nonsense"))
    before = count()
    for _ in range(3):
        with pytest.raises(LabError):
            box.start(FunctionSpec("nonsense"))
    assert count() == before


def test_it_ends_when_the_lab_hangs_up_and_not_on_ctrl_c(box):
    box.start(PROXY)
    box.process.send_signal(signal.SIGINT)
    box.client.counters()
    box.channel.close()
    assert box.process.wait(SECONDS) == 0


def test_a_dead_process_is_reported(box):
    box.start(PROXY)
    box.process.kill()
    box.process.wait()
    with pytest.raises(ProcessDied):
        box.client.counters()
