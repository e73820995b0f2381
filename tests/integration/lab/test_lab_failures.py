"""Processes that die while a lab runs: told soon, and nothing waits for ever."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from lab_topologies import boxed, pair

from testbed.emulator.userspace.messages import CountLink
from testbed.errors import CaptureError, PrivilegeError, ProcessDied
from testbed.kernel.processes.helper import start_helper
from testbed.kernel.processes.process import await_readable
from testbed.lab import Lab, runtime

SOON = 5.0  # at once, on a machine with other work to do


def helpers(lab: Lab) -> dict[str, int]:
    """The processes of a lab by what they are."""
    found = {}
    for process in lab._runtime.group._started:
        if process.running:
            words = " ".join(process.argv)
            kind = re.search(r"testbed[.\w]+|tcpdump|sleep|cat", words)
            assert kind is not None, words
            found[kind.group()] = process.pid
    return found


@pytest.fixture
def patience():
    """Blocks in a thread, and tells how long after `began` it was woken, and by what."""

    class Patience:
        def __init__(self) -> None:
            self.threads: list[threading.Thread] = []
            self.results: list[object] = []

        def start(self, function) -> None:
            entered = threading.Event()

            def run() -> None:
                entered.set()
                try:
                    self.results.append(function())
                except Exception as error:  # noqa: BLE001  (whatever it is, it is the result)
                    self.results.append(error)

            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            entered.wait()
            self.threads.append(thread)

        def all_woken_within(self, seconds: float) -> bool:
            deadline = time.monotonic() + seconds
            for thread in self.threads:
                thread.join(max(0, deadline - time.monotonic()))
            return not any(thread.is_alive() for thread in self.threads)

    return Patience()


@pytest.mark.parametrize(
    ("victim", "told"),
    [
        ("testbed.emulator.userspace", "The link emulator was killed by signal 9"),
        ("testbed.middlebox.process", "The middlebox 'box' was killed by signal 9"),
        ("tcpdump", "The capture of client:eth0 was killed by signal 9"),
    ],
)
def test_a_death_ends_the_lab_and_wakes_all_who_wait(victim, told, patience):
    with pytest.raises(ProcessDied, match=told), Lab(boxed(captures=["client"])) as lab:
        listener = lab["server"].listen(5001)
        idle = lab["server"].listen(5002)
        client = lab["client"].socket()
        client.connect((lab["server"].address, 5001))
        served, _ = listener.accept()
        datagram = lab["client"].socket(kind=socket.SOCK_DGRAM)
        datagram.bind((lab["client"].address, 5003))
        waiting = [client.recv, served.recv, datagram.recv]
        for receive in waiting:
            patience.start(lambda receive=receive: receive(100))
        patience.start(idle.accept)
        patience.start(lambda: lab["client"].run(["sleep", "50"]))
        os.kill(helpers(lab)[victim], signal.SIGKILL)
        woken = patience.all_woken_within(SOON * 5)
        with pytest.raises(ProcessDied, match=told) as later:
            lab["client"].socket()
    # Outside of the block: what is raised inside becomes the cause of the lab's own error.
    assert woken, patience.results
    assert "so the lab 'boxed' is no longer what its topology says" in str(later.value)


def test_a_death_is_noticed_soon(patience):
    with pytest.raises(ProcessDied), Lab(pair(emulated=True)) as lab:
        listener = lab["b"].listen()
        patience.start(listener.accept)
        began = time.monotonic()
        os.kill(helpers(lab)["testbed.emulator.userspace"], signal.SIGKILL)
        woken = patience.all_woken_within(30)
        took = time.monotonic() - began
    assert woken
    assert took < SOON


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_made_after_the_death_does_not_block_either(kind, patience):
    with pytest.raises(ProcessDied), Lab(pair(emulated=True)) as lab:
        lab._runtime.fail(ProcessDied("gone"))
        late = lab._runtime.sockets.make(lab["a"].namespace, socket.AF_INET, kind, 0)
        patience.start(lambda: late.recv(10))
        woken = patience.all_woken_within(30)
    assert woken


def test_a_datagram_socket_with_a_time_out_is_left_to_it():
    with pytest.raises(ProcessDied), Lab(pair(emulated=True)) as lab:
        sock = lab["a"].socket(kind=socket.SOCK_DGRAM)
        sock.settimeout(0.3)
        lab._runtime.fail(ProcessDied("gone"))
        worked = time.thread_time()
        with pytest.raises(TimeoutError) as ended:
            sock.recv(10)
        worked = time.thread_time() - worked
    assert ended.type is TimeoutError
    assert worked < 0.2  # it slept


def test_the_death_wins_over_the_error_it_causes():
    with pytest.raises(ProcessDied) as caught, Lab(pair(emulated=True)) as lab:
        dead = next(iter(lab._runtime.group._started))
        os.kill(dead.pid, signal.SIGKILL)
        lab.link("a", "b").counters  # noqa: B018
    assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, ProcessDied)


def test_a_ctrl_c_wins_over_the_death():
    with pytest.raises(KeyboardInterrupt), Lab(pair(emulated=True)) as lab:
        lab._runtime.fail(ProcessDied("gone"))
        raise KeyboardInterrupt


def test_an_emulator_that_dies_while_the_lab_is_built(monkeypatch):
    def start(group, namespace, module, name):
        return start_helper(group, namespace, "testbed.no_such_module", name)

    monkeypatch.setattr(runtime, "start_helper", start)
    with pytest.raises(ProcessDied, match=r"(?s)link emulator .*status 1.* No module named"):
        Lab(pair(emulated=True)).__enter__()


def test_a_helper_that_cannot_be_started_leaves_nothing(monkeypatch):
    monkeypatch.setattr("testbed.kernel.processes.group.sys.executable", "/bin/false")
    with pytest.raises(PrivilegeError, match="pid namespace for the lab's programs"):
        Lab(pair(emulated=True)).__enter__()


def await_stopped(pid: int) -> None:
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline


def test_an_emulator_that_hangs_is_told_and_not_asked_again():
    with Lab(pair(emulated=True)) as lab:
        pid = helpers(lab)["testbed.emulator.userspace"]
        os.kill(pid, signal.SIGSTOP)
        await_stopped(pid)
        emulator: Any = lab.link("a", "b")._emulator
        channel = emulator._channel
        with pytest.raises(ProcessDied, match=r"did not answer 'count_link' within 0.2 s"):
            channel.request(CountLink("a:eth0-b:eth0"), timeout=0.2)
        os.kill(pid, signal.SIGCONT)
        # Its late reply must not be taken for the one to another question.
        with pytest.raises(ProcessDied, match=r"an earlier request to it was broken off"):
            lab.link("a", "b").cut()


def test_programs_end_with_the_lab():
    with Lab(pair()) as lab:
        sleeper = lab["a"].start(["sh", "-c", "sleep 1000 & sleep 1000"])
        assert sleeper.running
        pidfd = os.pidfd_open(sleeper.pid)
    try:
        assert await_readable(pidfd, 0)
        assert sleeper.popen.returncode == -signal.SIGKILL
    finally:
        os.close(pidfd)


def test_a_capture_that_was_dead_when_it_was_stopped_stays_an_error():
    with pytest.raises(CaptureError, match=r"a:eth0"), Lab(pair(captures=["a"])) as lab:
        capture = lab.captures["a:eth0"]
        lab._runtime.expect_end(capture._process)
        os.kill(helpers(lab)["tcpdump"], signal.SIGKILL)
        for told in ("tcpdump ended early", "The capture of a:eth0 failed"):
            with pytest.raises(CaptureError, match=told):
                capture.stop()
