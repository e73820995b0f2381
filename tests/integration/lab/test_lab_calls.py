"""Python functions that run in nodes, and labs without a block."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lab_topologies import boxed, pair

from testbed.errors import LabError, ProcessDied
from testbed.lab import Lab, LabNode

ASIDE = 30.0


def _has(address: str) -> bool:
    """Whether this thread's host has the address."""
    with socket.socket() as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
        return True


def _fetch(host: str) -> bytes:
    with contextlib.closing(http.client.HTTPConnection(host, 8000, timeout=10)) as connection:
        connection.request("GET", "/")
        return connection.getresponse().read()


def test_a_started_lab_runs_until_it_is_stopped():
    lab = Lab(pair()).start()
    try:
        assert lab["a"].ping("b") < 1
        assert repr(lab).startswith("<Lab pair running")
    finally:
        lab.stop()
    lab.stop()
    with pytest.raises(LabError, match="is closed, not running"):
        lab["a"].ping("b")


def test_a_process_that_stops_no_lab_ends_by_itself():
    code = "import sys; from testbed import Lab; Lab(sys.argv[1]).start(); print('end')"
    done = subprocess.run(
        [sys.executable, "-c", code, "pair"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "end\n" and done.stderr == ""


def test_a_function_sees_the_node():
    with Lab(pair()) as lab:
        a, b = lab["a"], lab["b"]
        here = Path.cwd(), socket.gethostname()
        assert a.call(_has, a.address) and not a.call(_has, b.address) and not _has(a.address)
        assert (a.call(Path.cwd), a.call(socket.gethostname)) == (here[0], "a")
        assert a.call(socket.gethostbyname, "b") == b.address
        assert a.call(lambda: b.call(_has, b.address))
        with pytest.raises(ZeroDivisionError):
            a.call(divmod, 1, 0)
        assert (Path.cwd(), socket.gethostname()) == here


def test_names_resolve_for_libraries():
    with Lab(pair()) as lab:
        program = [sys.executable, "-m", "http.server", "8000", "-d", str(Path(__file__).parent)]
        lab["b"].start(program, listening=8000)
        assert b"test_lab_calls.py" in lab["a"].call(_fetch, "b")
        with pytest.raises(OSError, match=r"Name or service not known|Temporary failure"):
            lab["a"].call(_fetch, "elsewhere.example")


def test_calls_of_several_nodes_go_on_at_a_time():
    with Lab(pair()) as lab:
        meeting = threading.Barrier(3)

        def meet(node: LabNode) -> None:
            node.call(meeting.wait, ASIDE)

        others = [threading.Thread(target=meet, args=[lab[name]]) for name in "ab"]
        for other in others:
            other.start()
        lab["a"].call(meeting.wait, ASIDE)  # while another call of the same node goes on
        for other in others:
            other.join()


@pytest.mark.asyncio
async def test_calls_are_awaited_in_a_running_loop():
    lab = await Lab(pair()).astart()
    try:
        meeting = threading.Barrier(2)
        calls = [lab[name].acall(meeting.wait, ASIDE) for name in "ab"]
        assert sorted(await asyncio.gather(*calls)) == [0, 1]
        assert await lab["a"].acall(asyncio.run, asyncio.sleep(0, "slept")) == "slept"
    finally:
        await lab.astop()


def test_nobody_waits_for_a_call_of_a_lab_that_fails():
    release = threading.Event()
    try:
        with pytest.raises(ProcessDied, match="middlebox"), Lab(boxed()) as lab:
            box = next(one for one in lab._runtime.group._started if "middlebox" in str(one.argv))
            killer = threading.Timer(0.2, box.popen.kill)
            killer.start()
            lab["client"].call(release.wait)
    finally:
        release.set()


def test_nobody_waits_for_a_call_of_a_lab_that_ends():
    release, waiting, told = threading.Event(), threading.Event(), []

    def wait() -> None:
        waiting.set()
        release.wait()

    def call() -> None:
        with pytest.raises(LabError, match="has been taken down"):
            lab["a"].call(wait)
        told.append(True)

    try:
        with Lab(pair()) as lab:
            caller = threading.Thread(target=call)
            caller.start()
            assert waiting.wait(ASIDE)
        caller.join()
        assert told == [True]
    finally:
        release.set()
        deadline = time.monotonic() + ASIDE
        while any(one.name == "testbed-call" for one in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.001)
