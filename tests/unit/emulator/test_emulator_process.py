"""The real emulator process over its control channel; socket pairs stand in for TAP ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from typing import Any

import pytest
from emulator_process import DEADLINE, Started, add_link, attach, settled

from testbed.emulator.counters import CAUSES
from testbed.emulator.userspace import messages
from testbed.errors import LabError, ProcessDied
from testbed.kernel.processes.control import Message
from testbed.topology.model import Impairments, Queue, QueueLimit


def silent(end: socket.socket, seconds: float = 0.05) -> bool:
    return not select.select([end], [], [], seconds)[0]


def test_frames_cross_in_both_directions(cable):
    a, b = cable
    a.send(b"there")
    assert b.recv(100) == b"there"
    b.send(b"back")
    assert a.recv(100) == b"back"


def test_frames_of_any_kind_pass_untouched(cable):
    a, b = cable
    vlan = bytes(12) + b"\x81\x00\x00\x07\x08\x00" + bytes(46)
    for frame in (b"\x00", b"runt", vlan, os.urandom(1514), os.urandom(9014), os.urandom(65549)):
        a.send(frame)
        assert b.recv(70_000) == frame


def test_delay_holds_a_frame_back(emulator):
    delay = 0.3
    with contextlib.ExitStack() as stack:
        a, b = attach(emulator, stack, "slow", Impairments(delay=delay))
        before = time.monotonic()
        a.send(b"there")
        b.send(b"back")
        a.recv(100)
        assert time.monotonic() - before < delay
        b.recv(100)
        assert delay <= time.monotonic() - before < 10 * delay


def test_set_changes_one_direction_and_is_read_back(emulator, cable):
    impaired = Impairments(rate=1e6, delay=0.01, loss=0.25, queue=Queue(limit=QueueLimit(2, "bdp")))
    emulator.client.set("cable", "reverse", impaired)
    assert emulator.client.read_back("cable") == (Impairments(), impaired)


def test_a_limit_in_bdp_follows_the_delay_of_the_other_direction(emulator):
    """1 BDP of 8 Mbit/s and 10 ms back is 10 frames of 1000 bytes; one more is being sent."""
    bottleneck = Impairments(rate=8e6, queue=Queue(limit=QueueLimit(1, "bdp")))
    with contextlib.ExitStack() as stack:
        a, _ = attach(emulator, stack, "asymmetric", bottleneck)
        emulator.client.set("asymmetric", "reverse", Impairments(delay=1.0))
        emulator.client.set("asymmetric", "forward", bottleneck)
        for _ in range(50):
            a.send(bytes(1000))
        counted = settled(emulator, "asymmetric", packets_in=50)
        assert counted.dropped["queue"] == 0


def test_cut_and_restore_by_direction(emulator, cable):
    a, b = cable
    emulator.client.cut("cable", "forward")
    a.send(b"lost")
    b.send(b"passes")
    assert a.recv(100) == b"passes"
    assert silent(b)
    emulator.client.restore("cable")
    a.send(b"again")
    assert b.recv(100) == b"again"
    assert emulator.client.counters("cable").forward.dropped["cut"] == 1


def test_cut_takes_both_directions_when_none_is_named(emulator, cable):
    a, b = cable
    emulator.client.cut("cable")
    a.send(b"lost")
    b.send(b"lost")
    assert silent(a)
    assert silent(b)


def test_counters_count_packets_bytes_and_drops(emulator, cable):
    a, b = cable
    emulator.client.set(
        "cable", "forward", Impairments(rate=8e3, queue=Queue(limit=QueueLimit(2, "packets")))
    )
    for _ in range(10):
        a.send(bytes(100))
    counted = settled(emulator, "cable", packets_in=10)
    assert counted.bytes_in == 1000
    assert counted.dropped == {**dict.fromkeys(CAUSES, 0), "queue": 7}
    assert counted.queue_high_water == 2
    emulator.client.set("cable", "forward", Impairments())
    for _ in range(3):
        b.recv(200)
    done = emulator.client.counters("cable")
    assert (done.forward.packets_out, done.forward.bytes_out) == (3, 300)
    assert done.reverse.packets_in == 0
    assert done.lateness.packets == 3
    assert 0 < done.lateness.p50 <= done.lateness.p99 <= done.lateness.maximum


def test_the_same_seed_loses_the_same_frames(emulator):
    def survivors(name: str, seed: int) -> list[bytes]:
        with contextlib.ExitStack() as stack:
            a, b = attach(emulator, stack, name, Impairments(loss=0.5), seed=seed)
            for number in range(100):
                a.send(bytes([number]))
            counted = settled(emulator, name, packets_in=100)
            return [b.recv(10) for _ in range(100 - counted.dropped["loss"])]

    first = survivors("replayed", 3)
    emulator.end()
    emulator.__init__()
    assert survivors("replayed", 3) == first
    assert survivors("other", 3) != first


def test_a_target_that_refuses_is_counted_and_survived(emulator, cable):
    a, b = cable
    b.close()
    a.send(b"x")
    counted = settled(emulator, "cable", packets_in=1)
    limit = time.monotonic() + DEADLINE
    while not counted.dropped["tap"] and time.monotonic() < limit:
        counted = emulator.client.counters("cable").forward
    assert counted.dropped["tap"] == 1
    assert counted.packets_out == 0


@pytest.mark.parametrize(
    ("operation", "says"),
    [
        (lambda client: client.set("nowhere", "forward", Impairments()), "no link 'nowhere'"),
        (lambda client: client.set("cable", "sideways", Impairments()), "emulator: "),
        (
            lambda client: client.set("cable", "forward", Impairments(loss=2)),
            "loss: expected 0 to 1, got 2",
        ),
        (
            lambda client: client.set("cable", "forward", Impairments(rate=float("nan"))),
            "rate: expected",
        ),
        (lambda client: client.cut("nowhere"), "no link 'nowhere'"),
        (lambda client: client.counters("nowhere"), "no link 'nowhere'"),
        (lambda client: client.add_link(add_link("cable", 0, 0)), "already"),
    ],
)
def test_what_cannot_be_is_refused_and_the_emulator_lives(emulator, cable, operation, says):
    with pytest.raises(LabError, match=says):
        operation(emulator.client)
    a, b = cable
    a.send(b"x")
    assert b.recv(10) == b"x"


class Fly(Message, frozen=True):
    """Something that no emulator can."""


def test_malformed_requests_are_refused(emulator):
    wrong: Any = "wrong"
    plain, slow = Impairments(), Impairments(delay=wrong)
    for message in (
        messages.AddLink(name="x", tap_a=None, tap_b=None, forward=plain, reverse=plain),
        messages.SetImpairments(wrong, wrong, plain),
        messages.SetImpairments("x", "forward", slow),
        messages.SetCut("x", wrong, engaged=True),
        Fly(),
    ):
        with pytest.raises(LabError):
            emulator.channel.request(message)
    emulator.await_answer()


def test_it_has_no_privileges_left(emulator):
    status = dict(line.split(":\t") for line in emulator.proc("status").splitlines())
    for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(status[kind], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_it_runs_in_real_time_where_that_is_permitted(emulator):
    permitted = subprocess.run(["chrt", "-f", "10", "true"], check=False, stderr=-3).returncode == 0
    expected = os.SCHED_FIFO if permitted else os.SCHED_OTHER
    assert os.sched_getscheduler(emulator.process.pid) == expected


@pytest.mark.parametrize("used", [False, True])
def test_an_idle_emulator_sleeps(emulator, cable, used):
    """From the start, and again when the last frame has been delivered."""
    if used:
        emulator.client.set("cable", "forward", Impairments(rate=1e6, delay=0.01))
        for _ in range(3):
            cable[0].send(bytes(100))
        for _ in range(3):
            cable[1].recv(200)
        emulator.await_answer()
    # It may still have been on its way back to sleep when it was first looked at.
    assert any(slept_through(emulator, 0.5) for _ in range(4))


def slept_through(emulator: Started, seconds: float) -> bool:
    before = emulator.cpu_seconds(), context_switches(emulator)
    time.sleep(seconds)
    return (emulator.cpu_seconds(), context_switches(emulator)) == before


def context_switches(emulator: Started, kind: str = "") -> int:
    """How often it has given the processor away; kind: `voluntary_` or all."""
    return sum(
        int(line.split(":")[1])
        for line in emulator.proc("status").splitlines()
        if line.startswith(kind) and "ctxt_switches" in line
    )


def test_an_emulator_with_no_end_of_work_rests_now_and_then(emulator):
    """In real time, it would otherwise keep its processor until the kernel throttles it.

    Two links joined into a ring, and frames that go round and round.
    """
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
        (q, r), (s, p) = (map(stack.enter_context, pair) for pair in pairs)
        for _ in range(5):
            q.send(b"round and round")
        for name, a, b in (("one", p, q), ("two", r, s)):
            emulator.client.add_link(add_link(name, a.fileno(), b.fileno()))
        worked, rested = emulator.cpu_seconds(), context_switches(emulator, "voluntary_")
        limit = time.monotonic() + DEADLINE
        while emulator.cpu_seconds() - worked < 0.3:
            assert time.monotonic() < limit
            time.sleep(0.05)
        # Once in 5 ms of work, as long as nobody else takes its processor away meanwhile.
        assert context_switches(emulator, "voluntary_") - rested >= 20


def test_a_hang_up_ends_it_at_once(emulator, cable):
    emulator.client.set("cable", "forward", Impairments(delay=1000))
    cable[0].send(b"x")
    settled(emulator, "cable", packets_in=1)
    emulator.channel.close()
    assert emulator.process.wait(DEADLINE) == 0


def test_it_ignores_the_terminals_interrupt(emulator):
    emulator.process.send_signal(signal.SIGINT)
    emulator.await_answer()


def test_a_dead_emulator_is_reported(emulator):
    emulator.process.kill()
    with pytest.raises(ProcessDied, match="emulator"):
        emulator.client.counters("unknown")


def test_five_hundred_links_in_one_process(emulator):
    """A thousand descriptors: more than select() could watch."""
    with contextlib.ExitStack() as stack:
        ends = [attach(emulator, stack, f"link{number}") for number in range(500)]
        for number in (0, 499):
            a, b = ends[number]
            a.send(b"x")
            assert b.recv(10) == b"x"


def test_one_busy_link_does_not_hold_up_another(emulator, cable):
    """A frame of a quiet link passes while another one is flooded without pause."""
    a, _ = cable
    a.setblocking(False)
    with contextlib.ExitStack() as stack:
        quiet_a, quiet_b = attach(emulator, stack, "quiet")
        for _ in range(5):
            with contextlib.suppress(BlockingIOError):
                while True:
                    a.send(bytes(100))
            quiet_a.send(b"x")
            assert quiet_b.recv(10) == b"x"
