"""Why segments were sent, as the trace tells it, and as the kernel that sent them counted it."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import pytest

from testbed import Lab, loads
from testbed.kernel.clock import waits_are_exact
from testbed.lab import LabNode
from testbed.trace import Connection, Needless, RepeatReason, SegmentClass, read_trace

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
        reason="needs root and /dev/net/tun",
    ),
    pytest.mark.skipif(not waits_are_exact(), reason="is run by the virtual clock"),
]

TOPOLOGY = """
name: reasons
emulator: userspace
nodes: {a: {congestion_control: reno}, b: {congestion_control: reno}}
links: [{endpoints: [a:eth0, b:eth0], rate: 20mbit, delay: 10ms}]
captures: [a:eth0]
"""
SIZE = 1448
FAST, PROBE = RepeatReason.FAST, RepeatReason.TAIL_LOSS_PROBE
TIMEOUT = RepeatReason.TIMEOUT
FIRED = True


class Talk:
    """A connection from a to b: what the kernels counted in it, and how its sender captured it."""

    def __init__(self, lab: Lab, sender: socket.socket, receiver: socket.socket) -> None:
        self.lab, self.sender, self.receiver = lab, sender, receiver
        self.link = lab.link("a", "b")
        self.counted: Counter[str] = Counter()
        self.counted_by_receiver: Counter[str] = Counter()

    def carries(self, segments: int) -> None:
        """The receiver reads what the sender sends."""
        self.sender.sendall(bytes(segments * SIZE))
        self.receives(segments)

    def receives(self, segments: int) -> None:
        left = segments * SIZE
        while left:
            left -= len(self.receiver.recv(left))

    @cached_property
    def connection(self) -> Connection:
        return read_trace(self.lab.captures["a:eth0"].flush()).connections[-1]

    def reasons(self) -> dict[tuple[RepeatReason, bool], int]:
        """How many of the sender's segments of each reason, with a timer fired or not."""
        repeats = self.connection.analysis.repeats_of(0)
        assert len(repeats) == self.counted["RetransSegs"]
        return dict(Counter((one.reason, one.timer) for one in repeats))

    def needless(self) -> dict[Needless, int]:
        return dict(Counter(one.needless for one in self.connection.analysis.repeats_of(0)))

    def number(self, kind: SegmentClass, side: int = 0) -> int:
        return len(self.connection.analysis.rows(kind, side=side))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(loads(TOPOLOGY)) as running:
        yield running


@contextmanager
def talking(
    lab: Lab, *drops: dict[str, object], sack: int = 1, dsack: int = 1, buffer: int | None = None
) -> Iterator[Talk]:
    """A connection on whose way to b these are lost; what is said of it holds when it is over."""
    lab["a"].set_sysctl("net.ipv4.tcp_sack", sack)
    lab["b"].set_sysctl("net.ipv4.tcp_dsack", dsack)
    link = lab.link("a", "b")
    link.set("b", delay="10ms", drop=list(drops))
    before = [counters(lab[name]) for name in "ab"]
    with lab["b"].listen() as listener, lab["a"].socket() as sender:
        if buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sender.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            talk = Talk(lab, sender, accepted)
            yield talk
            sender.shutdown(socket.SHUT_WR)
            assert accepted.recv(1) == b""
    link.set("b", drop=[])  # the same rules begin anew
    talk.counted = counters(lab["a"]) - before[0]
    talk.counted_by_receiver = counters(lab["b"]) - before[1]


def counters(node: LabNode) -> Counter[str]:
    counted = node.protocol_counters()
    return Counter(counted.get("Tcp", {}) | counted.get("TcpExt", {}))


@pytest.mark.parametrize("sack", [1, 0])
def test_what_acks_tell_to_be_lost(lab: Lab, sack: int) -> None:
    with talking(lab, {"data_segment": 20}, sack=sack) as talk:
        talk.carries(60)
    assert talk.reasons() == {(FAST, not FIRED): 1}
    assert talk.counted["TCPFastRetrans"] == 1
    assert talk.counted["TCPSackRecovery" if sack else "TCPRenoRecovery"] == 1
    assert talk.needless() == {Needless.NO: 1}


def test_what_is_lost_again_is_told_by_acks_too(lab: Lab) -> None:
    with talking(lab, {"data_segment": 20}, {"retransmission": 1}) as talk:
        talk.carries(100)
    assert talk.reasons() == {(FAST, not FIRED): 2}
    assert (talk.counted["TCPFastRetrans"], talk.counted["TCPLostRetransmit"]) == (2, 1)


def test_a_probe_of_the_tail_and_what_its_ack_tells(lab: Lab) -> None:
    with talking(lab, {"data_segment": 9}, {"data_segment": 10}) as talk:
        talk.carries(10)
    assert talk.reasons() == {(PROBE, FIRED): 1, (FAST, not FIRED): 1}
    assert (talk.counted["TCPLossProbes"], talk.counted["TCPFastRetrans"]) == (1, 1)
    assert talk.counted["TCPTimeouts"] == 0


@pytest.mark.parametrize(("sack", "timer"), [(1, "TCPLossProbes"), (0, "TCPTimeouts")])
def test_a_lone_segment_by_a_timer(lab: Lab, sack: int, timer: str) -> None:
    """The probe of a lone one waits as long as the time-out (tcp_schedule_loss_probe)."""
    with talking(lab, {"data_segment": 10}, sack=sack) as talk:
        talk.carries(10)
    assert talk.reasons() == {(TIMEOUT, FIRED): 1}
    assert talk.counted["TCPLossProbes"] + talk.counted["TCPTimeouts"] == 1
    assert talk.counted[timer] == 1


def test_a_cut_link(lab: Lab) -> None:
    with talking(lab) as talk:
        talk.carries(20)
        talk.link.cut()
        talk.sender.sendall(bytes(20 * SIZE))
        time.sleep(1)
        talk.link.restore()
        talk.receives(20)
    assert talk.reasons() == {
        (PROBE, FIRED): talk.counted["TCPLossProbes"],
        (TIMEOUT, FIRED): talk.counted["TCPTimeouts"],
        (TIMEOUT, not FIRED): talk.counted["TCPSlowStartRetrans"],
    }
    assert (talk.counted["TCPLossProbes"], talk.counted["TCPTimeouts"]) == (1, 3)


def test_syns_that_were_lost(lab: Lab) -> None:
    with talking(lab, {"flags": "SYN", "nth": 1}, {"flags": "SYN", "nth": 2}) as talk:
        talk.carries(1)
    assert talk.reasons() == {(TIMEOUT, FIRED): 2}
    assert talk.counted["TCPSynRetrans"] == 2


@pytest.mark.parametrize(("dsack", "told"), [(1, Needless.DSACK), (0, Needless.TIME_STAMP)])
def test_what_was_only_late(lab: Lab, dsack: int, told: Needless) -> None:
    with talking(lab, dsack=dsack) as talk:
        talk.carries(20)
        talk.link.set("b", delay="400ms")
        talk.carries(10)
        talk.link.set("b", delay="10ms")
        time.sleep(1)  # what was sent again arrives
    assert talk.reasons() == {(PROBE, FIRED): 1, (TIMEOUT, FIRED): 1}
    assert (talk.counted["TCPLossProbes"], talk.counted["TCPTimeouts"]) == (1, 1)
    assert talk.needless() == {told: 2}
    assert talk.counted["TCPDSACKRecv"] == (2 if dsack else 0)
    assert talk.counted["TCPLossUndo"] == 1  # by the time stamp, here and there


def test_what_was_overtaken(lab: Lab) -> None:
    with talking(lab) as talk:
        talk.link.set("b", reorder={"probability": "10%", "gap": 3})
        talk.carries(100)
        time.sleep(1)
        talk.link.set("b", reorder=None)
    assert talk.reasons() == {(FAST, not FIRED): talk.counted["TCPFastRetrans"]}
    assert talk.counted["TCPFastRetrans"] > 0
    assert talk.needless() == {Needless.DSACK: talk.counted["TCPDSACKRecv"]}


def test_a_window_that_closes(lab: Lab) -> None:
    with talking(lab, buffer=8192) as talk:
        talk.sender.sendall(bytes(20 * SIZE))
        time.sleep(5)
        talk.receives(20)
    assert talk.reasons() == {}
    probes, there = talk.counted["TCPWinProbe"], talk.counted_by_receiver
    assert talk.number(SegmentClass.WINDOW_PROBE) == probes == 4
    assert there["TCPToZeroWindowAdv"] == there["TCPFromZeroWindowAdv"] == 1
    answers = probes - there["TCPACKSkippedSeq"]
    assert talk.number(SegmentClass.ZERO_WINDOW, side=1) == 1 + answers
    assert talk.number(SegmentClass.WINDOW_UPDATE, side=1) == 1


def test_keepalives(lab: Lab) -> None:
    with talking(lab) as talk:
        talk.sender.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        talk.sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
        talk.sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        talk.carries(2)
        time.sleep(45)
    assert talk.reasons() == {}
    assert talk.number(SegmentClass.KEEPALIVE) == talk.counted["TCPKeepAlive"] == 4
