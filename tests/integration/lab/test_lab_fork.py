"""Labs and processes that are forked from theirs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_topologies import belongings

from testbed import Lab, loads
from testbed.errors import LabError
from testbed.lab.runtime import _FAREWELL_SECONDS

LONG = 30.0
TOPOLOGY = loads(
    "{name: t, emulator: userspace, nodes: {a: {}, b: {}, m: {kind: middlebox, outside: b}},"
    " links: [{endpoints: [a, m], delay: 1ms}, {endpoints: [m, b]}], captures: [a]}"
)

PLAIN = loads("{name: u, nodes: {a: {}, b: {}}, links: [{endpoints: [a, b]}]}")


def forked(work: Callable[[], int]) -> int:
    """The process id of a fork that does some work and ends with its result."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = work()
        finally:
            os._exit(status)
    return pid


def status_of(pid: int) -> int:
    """How a fork ended; it is killed where it does not."""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGKILL


USES = {
    "ping": lambda lab: lab["a"].ping("b"),
    "socket": lambda lab: lab["a"].socket(),
    "run": lambda lab: lab["a"].run(["true"]),
    "sysctl": lambda lab: lab["a"].sysctl("net.ipv4.ip_forward"),
    "counters": lambda lab: lab.link("a", "m").counters,
    "set": lambda lab: lab.link("a", "m").set(delay="2ms"),
    "functions": lambda lab: lab["m"].counters(),
    "capture": lambda lab: lab.captures["a:eth0"].stop(),
    "check": lambda lab: lab.check(),
}


@pytest.mark.parametrize("use", USES)
def test_a_fork_is_told_that_the_lab_is_not_its_own(use):
    with Lab(TOPOLOGY) as lab:

        def work() -> int:
            try:
                USES[use](lab)
            except LabError as error:
                return 7 if "was forked" in str(error) else 8
            return 9

        assert status_of(forked(work)) == 7
        assert lab["a"].ping("b") < LONG


def test_a_fork_that_leaves_the_block_leaves_the_lab_alone():
    with Lab(TOPOLOGY) as lab:
        pid = os.fork()
        if pid == 0:
            lab.__exit__(None, None, None)
            os._exit(0)
        assert status_of(pid) == 0
        assert lab["a"].ping("b") < LONG


def test_a_lab_ends_while_its_fork_lives_on():
    """Helper processes are told of the end: nobody waits until they have to be killed."""
    before = belongings()
    with Lab(TOPOLOGY) as lab:
        sleeper = lab["a"].start(["sleep", "60"])
        pid = forked(lambda: time.sleep(LONG) or 0)
        began = time.monotonic()
    assert time.monotonic() - began < _FAREWELL_SECONDS
    assert not sleeper.running
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert belongings()["children"] == before["children"]


def helpers_of(marker: str) -> set[int]:
    """The processes that have a word in their environment."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if marker.encode() in entry.read_bytes():
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return found


def test_helpers_end_with_the_owner_though_a_fork_of_it_lives_on(monkeypatch):
    marker = f"testbed-fork-{os.getpid()}-{time.monotonic_ns()}"
    read, write = os.pipe()

    def own() -> int:
        monkeypatch.setenv("TESTBED_TEST_MARKER", marker)
        lab = Lab(TOPOLOGY)
        lab.__enter__()
        child = forked(lambda: time.sleep(2 * LONG) or 0)
        os.write(write, str(child).encode())
        time.sleep(LONG)
        return 0

    owner = forked(own)
    child = int(os.read(read, 20))
    os.close(read)
    os.close(write)
    try:
        assert helpers_of(marker), "emulator, middlebox and capture"
        os.kill(owner, signal.SIGKILL)
        os.waitpid(owner, 0)
        deadline = time.monotonic() + LONG
        while helpers_of(marker) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert helpers_of(marker) == set()
        os.kill(child, 0)  # still there
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_fork_may_have_a_lab_of_its_own():
    with Lab(TOPOLOGY) as lab:

        def work() -> int:
            with Lab(
                loads("{name: u, nodes: {a: {}, b: {}}, links: [{endpoints: [a, b]}]}")
            ) as own:
                return 5 if own["a"].ping("b") < LONG else 6

        assert status_of(forked(work)) == 5
        assert lab["a"].ping("b") < LONG
