"""What becomes of programs, and of all that they have started; what they write is kept."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
from lab_topologies import pair

from testbed.errors import CommandFailed, LabError
from testbed.kernel.processes import output
from testbed.lab import Lab

LONG = 30.0
SERVER = """
import socket
server = socket.create_server(("", 80))
while True:
    connection, _ = server.accept()
    print("x" * 99, flush=True)
    connection.sendall(connection.recv(10))
    connection.close()
"""
UDP = "import socket, time; s = socket.socket(type=2); s.bind(('', 53)); time.sleep(60)"


@pytest.fixture(scope="module")
def node():
    with Lab(pair()) as lab:
        lab["a"].run(["true"])  # the first program brings what stays until the end
        yield lab["a"]


def names_in(node) -> list[str]:
    """The programs that are in the node, but for `ps` and the first one."""
    return node.run(["ps", "-eo", "comm"]).stdout.split()[2:-1]


ESCAPES = {
    "stayed": "sleep 70",
    "session of its own": "setsid sleep 70",
    "group of its own": "set -m; sleep 70 & set +m; wait",
    "daemon": "setsid -f sh -c 'setsid -f sleep 70'; sleep 71",
    "no environment": "env -i setsid sleep 70",
    "deaf": "(trap '' TERM; sleep 70; sleep 71)",
}


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("leader", ["lives", "has ended"])
@pytest.mark.parametrize("escape", ESCAPES)
def test_all_that_a_program_has_started_ends_with_it(node, escape, leader, end):
    wait = "wait" if leader == "lives" else "exit 0"
    script = f"{{ {ESCAPES[escape]}; }} & echo ready >&$TESTBED_READY_FD; {wait}"
    process = node.start(["bash", "-c", script], ready_fd=True, timeout=LONG)
    if leader == "has ended":
        assert process.wait(LONG) == 0
    deadline = time.monotonic() + LONG / 2
    while "sleep" not in names_in(node):
        assert time.monotonic() < deadline
    process.stop(0.3) if end == "stop" else process.kill()
    while names_in(node):  # dead, and for a moment still to be seen
        assert time.monotonic() < deadline
    process.wait(LONG)


def test_other_programs_go_on(node):
    other = node.start(["sleep", "60"])
    node.start(["sleep", "61"]).stop()
    assert other.running
    assert other.stop() == -signal.SIGTERM


def test_a_server_may_write_more_than_a_pipe_takes():
    with Lab(pair()) as lab:
        server = lab["b"].start([sys.executable, "-S", "-c", SERVER], listening=80, timeout=LONG)
        for _ in range(1500):  # 150 kB
            with lab["a"].socket() as sock:
                sock.settimeout(LONG)
                sock.connect((lab["b"].address, 80))
                sock.sendall(b"hello")
                assert sock.recv(10) == b"hello"
        assert server.stdout_text() == ("x" * 99 + "\n") * 1500


def test_of_a_long_output_the_end_is_kept_and_it_is_told(node, monkeypatch):
    monkeypatch.setattr(output.OutputFile.__init__, "__defaults__", (4 << 20,))
    script = "yes 0123456 | head -c 20000000; echo last; echo ready >&$TESTBED_READY_FD; sleep 60"
    process = node.start(["bash", "-c", script], ready_fd=True, timeout=LONG)
    first, _, rest = process.stdout_text().partition("\n")
    assert first == f"[the first {20_000_005 - (4 << 20)} bytes are not kept]"
    assert rest.endswith("0123456\nlast\n")
    assert len(rest) == 4 << 20
    deadline = time.monotonic() + LONG
    while room_of(process) > 5 << 20:  # while it runs, once a second
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert process.stdout_text() == f"{first}\n{rest}"
    process.kill()


def room_of(process) -> int:
    """Bytes on disk that its standard output takes."""
    return os.fstat(process._stdout.fileno()).st_blocks * 512


def test_of_a_program_that_ends_soon_no_more_is_kept(node, monkeypatch):
    monkeypatch.setattr(output.OutputFile.__init__, "__defaults__", (4 << 20,))
    process = node.start(["head", "-c", "20000000", "/dev/zero"])
    assert process.wait(LONG) == 0
    assert len(process.output()[0]) == 4 << 20
    assert room_of(process) <= 5 << 20


def test_too_long_an_output_of_a_program_that_is_waited_for_is_an_error(node, monkeypatch):
    monkeypatch.setattr(output.OutputFile.__init__, "__defaults__", (1 << 20,))
    with pytest.raises(CommandFailed, match=r"wrote more than .* MiB; have it write to a file"):
        node.run(["head", "-c", "3000000", "/dev/zero"])


@pytest.mark.parametrize("given", ["smörgås\n", b"\xff\x00\n"])
def test_input_is_read_and_output_is_there_as_bytes(node, given):
    done = node.run(["cat"], input=given)
    wanted = given.encode() if isinstance(given, str) else given
    assert done.stdout_bytes == wanted
    assert done.stdout == wanted.decode(errors="replace")


def test_without_input_there_is_nothing_to_read(node):
    assert node.run(["cat"]).stdout == ""


@pytest.mark.parametrize("given", ["ls -l", b"ls -l"])
def test_text_is_no_command(node, given):
    with pytest.raises(LabError, match=r"a list of words, not the text 'ls -l'.*\['ls', '-l'\]"):
        node.run(given)
    with pytest.raises(LabError, match="this one is empty"):
        node.run([])


def test_a_udp_port_is_awaited(node):
    server = node.start([sys.executable, "-c", UDP], listening="53/udp", timeout=LONG)
    assert 53 in node.listening_ports("udp")
    assert 53 not in node.listening_ports()
    with pytest.raises(LabError, match="listens on port 53/udp"):
        node.start(["true"], listening="53/udp")
    server.stop()


@pytest.mark.parametrize("given", [0, 65536, "http", "53/sctp", -1])
def test_what_is_no_port(node, given):
    with pytest.raises(LabError, match="A port is"):
        node.start(["true"], listening=given)
