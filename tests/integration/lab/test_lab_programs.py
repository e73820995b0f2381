"""Programs in a node: to their end, or until they are ready."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_topologies import pair

from testbed.errors import CommandFailed, LabError, MissingProgram
from testbed.lab import Lab

PYTHON = [sys.executable, "-S", "-c"]
LISTEN = "import socket, time; s = socket.create_server(('', {port})); time.sleep(60)"
LONG = 30.0
UNIQUE = f"50.{os.getpid()}"  # an argument that tells our own `sleep` from others'


def sleeping() -> bool:
    """Whether such a process is there, after a moment for the kernel to end it."""
    deadline = time.monotonic() + LONG
    while found := UNIQUE.encode() in b"".join(commands()):
        if time.monotonic() > deadline:
            break
    return found


def commands() -> Iterator[bytes]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if command.startswith(b"sleep\0"):
                yield command


@pytest.fixture(scope="module")
def node():
    with Lab(pair()) as lab:
        lab["a"].run(["true"])  # the first program brings what stays until the end
        yield lab["a"]


def test_a_program_runs_inside_the_node(node):
    assert node.address in node.run(["ip", "-4", "address"]).stdout


def test_a_working_directory_may_be_relative_to_ours(node, tmp_path, monkeypatch):
    (tmp_path / "www").mkdir()
    monkeypatch.chdir(tmp_path)
    assert node.run(["pwd", "-P"], cwd="www").stdout.strip() == str(tmp_path / "www")
    assert node.run(["pwd", "-P"]).stdout.strip() == str(tmp_path)


def test_status_and_both_streams_are_given_back(node):
    done = node.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (done.status, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_status_other_than_0_is_an_error_with_everything_in_it(node):
    with pytest.raises(CommandFailed) as caught:
        node.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    error = caught.value
    assert (error.status, error.stdout, error.stderr) == (3, "out\n", "err\n")
    assert "status 3" in str(error)
    assert "err" in str(error)


def test_long_output_on_both_streams_is_complete(node):
    code = "import sys\nfor s in (sys.stdout, sys.stderr): s.write('x' * 300_000)"
    done = node.run([*PYTHON, code])
    assert (len(done.stdout), len(done.stderr)) == (300_000, 300_000)


def test_a_time_out_kills_the_program_and_all_it_started(node):
    began = time.monotonic()
    with pytest.raises(CommandFailed, match=r"killed: still running after 1\.5 s") as caught:
        node.run(["sh", "-c", f"echo begun; sleep {UNIQUE}; echo never"], timeout=1.5)
    assert time.monotonic() - began < LONG / 2
    assert caught.value.stdout == "begun\n"
    assert not sleeping()


def test_a_program_that_leaves_another_behind_does_not_block(node):
    began = time.monotonic()
    assert node.run(["sh", "-c", "sleep 50 & echo done"]).stdout == "done\n"
    assert time.monotonic() - began < LONG / 2


@pytest.mark.parametrize(
    ("argv", "options", "kind", "told"),
    [
        (["no-such-program"], {}, MissingProgram, "'no-such-program' was not found"),
        (["/no/such/program"], {}, MissingProgram, "There is no program '/no/such/program'"),
        (["/etc/passwd"], {}, CommandFailed, "not started: Permission denied"),
        (["true"], {"cwd": "/no/such/folder"}, CommandFailed, "working directory /no/such/folder"),
    ],
)
def test_what_cannot_be_started(node, argv, options, kind, told):
    for use in (node.run, node.start):
        with pytest.raises(kind, match=told):
            use(argv, **options)


def test_a_listening_port_is_awaited(node):
    server = node.start([*PYTHON, LISTEN.format(port=6001)], listening=6001, timeout=LONG)
    assert 6001 in node.listening_ports()
    assert server.stop() == -signal.SIGTERM
    assert 6001 not in node.listening_ports()


def test_a_port_in_use_is_told_at_once(node):
    listener = node.listen(6002)
    with pytest.raises(LabError, match=r"listens on port 6002 of node 'a' already"):
        node.start([*PYTHON, LISTEN.format(port=6002)], listening=6002)
    with pytest.raises(LabError, match=r"cannot listen on .* port 6002: Address already in use"):
        node.listen(6002)
    with pytest.raises(LabError, match=r"cannot listen on 203.0.113.1 .*Cannot assign"):
        node.listen(address="203.0.113.1")
    listener.close()


def test_a_program_that_dies_before_it_listens(node):
    with pytest.raises(CommandFailed, match=r"not listening on port 6003.*status 7") as caught:
        node.start(["sh", "-c", "echo why >&2; exit 7"], listening=6003, timeout=LONG)
    assert caught.value.status == 7
    assert "why" in caught.value.stderr


def test_a_program_that_never_listens_is_killed(node):
    with pytest.raises(CommandFailed, match=r"not listening on port 6004.*still running"):
        node.start(["sleep", UNIQUE], listening=6004, timeout=0.2)
    assert not sleeping()


def test_readiness_is_told_by_a_descriptor(node):
    script = "sleep 0.1; echo ready >&$TESTBED_READY_FD; sleep 60"
    process = node.start(["bash", "-c", script], ready_fd=True, timeout=LONG)
    assert process.running
    process.stop()


@pytest.mark.parametrize(
    ("script", "timeout", "told"),
    [
        ("exit 5", LONG, "not ready in node 'a' .ended with status 5"),
        ('eval "exec $TESTBED_READY_FD>&-"; sleep 60', LONG, "not ready.*still running"),
        ("sleep 60", 0.2, "not ready in node 'a' .still running"),
    ],
)
def test_a_program_that_never_gets_ready(node, script, timeout, told):
    with pytest.raises(CommandFailed, match=told):
        node.start(["bash", "-c", script], ready_fd=True, timeout=timeout)


def test_a_program_that_ignores_the_polite_end_is_killed(node):
    script = "trap '' TERM; echo ready >&$TESTBED_READY_FD; while :; do sleep 1; done"
    process = node.start(["bash", "-c", script], ready_fd=True, timeout=LONG)
    assert process.stop(timeout=0.2) == -signal.SIGKILL


def test_the_output_of_a_started_program_can_be_read(node):
    script = "echo one; echo two >&2; echo ready >&$TESTBED_READY_FD; sleep 60"
    process = node.start(["bash", "-c", script], ready_fd=True, timeout=LONG)
    assert (process.stdout_text(), process.stderr_text()) == ("one\n", "two\n")
    assert process.running
    assert "bash -c" in repr(process)
    process.stop()
    assert process.stdout_text() == "one\n"


def test_the_environment_can_be_given(node):
    assert node.run(["sh", "-c", "echo $A"], env={"A": "b", "PATH": "/bin"}).stdout == "b\n"
