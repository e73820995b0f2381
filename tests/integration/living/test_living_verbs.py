"""The commands about labs that live on, from `up` to `down`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.errors import LabError
from testbed.living.client import LabClient
from testbed.trace import read_trace

SECONDS = 30.0
TOPOLOGY = """
name: verbs
nodes:
  client: {congestion_control: reno}
  router: {kind: middlebox, outside: client, functions: [setup-proxy: {}, trace-log: {}]}
  server: {}
links:
  - {endpoints: [client, router], delay: 10ms, schedule: [{at: 10ms, loss: 1%}]}
  - {endpoints: [router, server]}
"""


@pytest.fixture(scope="module")
def lab(living) -> str:
    path = living.folder / "verbs.yaml"
    path.write_text(TOPOLOGY)
    told = living.run("up", str(path))
    assert told.startswith("verbs is up: client router server\n")
    return "verbs"


def test_the_lab_is_listed_and_its_api_is_this_user_s_alone(living, lab):
    table = living.run("ls")
    assert "verbs" in table and "running" in table and "client router server" in table
    (listed,) = json.loads(living.run("ls", "--json"))
    assert listed["lab"]["state"] == "running"
    path = Path(listed["socket"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_second_lab_of_the_name_is_refused_and_another_name_is_not(living, lab):
    told = living.run("up", str(living.folder / "verbs.yaml"), status=1)
    assert "A lab 'verbs' is running already" in told and "--name OTHER" in told
    assert living.run("up", "pair", "--name", "other").startswith("other is up: client server\n")
    assert living.run_in("other", "server", "hostname")["stdout"] == "server\n"
    living.run("down", "other")
    assert "other" not in living.run("ls")


def test_a_topology_that_cannot_be_built_is_told_in_full(living):
    path = living.folder / "faulty.yaml"
    path.write_text("name: faulty\nnodes: {a: {}}\nlinks: [{endpoints: [a, b], delay: 5}]\n")
    told = living.run("up", str(path), status=1)
    assert told.count("faulty.yaml:3") == 2, told
    assert "faulty" not in living.run("ls")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_lab_whose_command_is_ended_before_it_runs_ends_too(living, number):
    record = living.folder / "testbed" / "unheard.json"
    command = living.start("up", "docomo", "--name", "unheard")
    deadline = time.monotonic() + SECONDS
    while not record.exists():
        assert time.monotonic() < deadline and command.poll() is None
        time.sleep(0.001)
    command.send_signal(number)
    command.communicate(timeout=SECONDS)
    while record.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_not_there_is_told_with_what_there_is(living, lab):
    told = living.run("exec", "verb", "client", "--", "true", status=1)
    assert "There is no lab 'verb'. There is verbs" in told
    told = living.run("exec", lab, "clint", "--", "true", status=1)
    assert "it has client, router, server" in told
    told = living.run("exec", "verb", status=1)
    assert "neither a script nor a running lab 'verb'" in told
    told = living.run("cut", lab, "client", "server", status=1)
    assert "no link between 'client' and 'server'" in told


def test_a_program_has_the_streams_folder_environment_and_status(living, lab):
    script = "read word; echo $word $HELLO $(hostname) $PWD; echo wrong >&2; exit 7"
    program = living.start(
        "exec", lab, "server", "--", "sh", "-c", script,
        env={**living.environment, "HELLO": "hello"}, cwd=living.folder,
    )  # fmt: skip
    out, errors = program.communicate("given\n", timeout=SECONDS)
    assert (program.returncode, out) == (7, f"given hello server {living.folder}\n")
    assert errors == "wrong\n"


def test_a_signal_reaches_the_program_and_its_status_comes_back(living, lab):
    script = "trap 'echo told; exit 3' INT; echo ready; while :; do sleep 0.01; done"
    program = living.start("exec", lab, "client", "--", "sh", "-c", script)
    assert program.stdout.readline() == "ready\n"
    program.send_signal(signal.SIGINT)
    out, _ = program.communicate(timeout=SECONDS)
    assert (out, program.returncode) == ("told\n", 3)


def test_a_program_ends_when_its_command_is_killed(living, lab):
    program = living.start("exec", lab, "client", "--", "sh", "-c", "echo $$; exec sleep 1000")
    assert program.stdout.readline()
    program.kill()
    program.communicate(timeout=SECONDS)
    deadline = time.monotonic() + SECONDS
    while "sleep" in living.run_in(lab, "client", "ps", "-e", "-o", "comm")["stdout"]:
        assert time.monotonic() < deadline


def test_a_shell_has_a_terminal_of_its_own(living, lab):
    environment = {**living.environment, "SHELL": "/bin/sh", "PS1": "$ "}
    ours, theirs = os.openpty()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, ours)
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        shell = living.start(
            "shell", lab, "server", env=environment, start_new_session=True, **streams
        )
        stack.callback(shell.wait)
        stack.callback(shell.kill)
        os.close(theirs)
        told = _await(ours, "$ ")
        os.write(ours, b"tty; sh -c 'echo sle''eps; exec sleep 1000'\n")
        told = _await(ours, "sleeps")
        assert "/dev/pts/" in told
        os.write(ours, b"\x03")  # Ctrl-C ends what runs in the foreground, and not the shell
        told = _await(ours, "$ ")
        os.write(ours, b"echo in $(hostname); exit 5\n")
        told = _await(ours, "in server")
        assert "in server" in told
        assert shell.wait(SECONDS) == 5


def _await(terminal: int, words: str) -> str:
    heard = ""
    deadline = time.monotonic() + SECONDS
    while words not in heard:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, heard
        heard += os.read(terminal, 4096).decode()
    return heard


def test_links_are_changed_cut_and_restored(living, lab):
    told = living.run("set", lab, "client", "router", "delay=30ms", "loss=0%")
    assert "client:eth0-router:eth0 to router: 30ms" in told
    done = living.run_in(lab, "client", "ping", "-c", "1", "router")
    assert float(done["stdout"].split("time=")[1].split()[0]) >= 60
    told = living.run("set", lab, "client", "router", "jitter={spread: 1ms}", "--toward", "client")
    assert "to client: 30ms, jitter: spread 1ms" in told and "to router: 30ms\n" in told
    told = living.run("set", lab, "client", "router", "delai=30ms", status=1)
    assert "did you mean 'delay'?" in told
    assert living.run("cut", lab, "client", "router").count("cut, 30ms") == 2
    assert "cut, 30ms" in living.run("graph", lab)
    assert living.run_in(lab, "client", "ping", "-c", "1", "-W", "0.2", "router")["status"] == 1
    assert "cut" not in living.run("restore", lab, "client", "router")
    assert living.run_in(lab, "client", "ping", "-c", "1", "router")["status"] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("set LAB client router delay=80", "the unit is missing"),
        ("set LAB client router dely=80ms", "no impairment 'dely'; did you mean 'delay'?"),
        ("set LAB client ruoter delay=1ms", "no node 'ruoter'; did you mean 'router'?"),
        ("cut LAB client server", "no link between 'client' and 'server', but client:eth0-router:"),
        ("capture LAB client --live", "given as NODE:INTERFACE, such as client:eth0"),
    ],
)
def test_a_slip_of_the_pen_is_told_with_what_was_meant(living, lab, words, told):
    said = living.run(*words.replace("LAB", lab).split(), status=1)
    assert told in said and "?." not in said


def test_functions_are_shown_switched_and_set(living, lab):
    assert "setup-proxy: on" in living.run("function", lab, "router")
    assert living.run("function", lab, "router", "setup-proxy", "off").startswith(
        "setup-proxy: off"
    )
    told = living.run("function", lab, "router", "setup-proxy", "on", "handshake_data=hold")
    assert told.startswith("setup-proxy: on") and "handshake_data=hold" in told
    told = living.run("function", lab, "router", "setup-prox", status=1)
    assert "it has setup-proxy, trace-log" in told


def test_sockets_statistics_and_the_log_are_shown(living, lab):
    program = living.start("exec", lab, "server", "--", "python3", "-c", _SERVER)
    assert program.stdout.readline() == "listening\n"
    talk = f"{_CLIENT}; print('connected', flush=True); input()"
    client = living.start("exec", lab, "client", "--", "python3", "-c", talk)
    assert client.stdout.readline() == "connected\n"
    table = living.run("show", lab, "client", "sockets")
    assert "ESTABLISHED" in table and "reno" in table
    (found,) = json.loads(living.run("show", lab, "client", "sockets", "--json"))
    assert found["remote"].endswith(":80") and found["info"]["rtt_us"] > 0
    assert "kernel Tcp ActiveOpens: 1" in living.run("show", lab, "client", "statistics")
    assert "box received outside" in living.run("show", lab, "router", "statistics")
    assert living.run("show", lab, "router", "log")
    told = living.run("show", lab, "client", "log", status=1)
    assert "has no functions" in told
    client.communicate("\n", timeout=SECONDS)
    program.communicate(timeout=SECONDS)


_SERVER = (
    "import socket; s = socket.create_server(('', 80)); print('listening', flush=True); "
    "c, _ = s.accept(); c.sendall(b'hello')\nwhile c.recv(99): pass"
)
_CLIENT = (
    "import socket; c = socket.create_connection(('10.0.2.2', 80)); c.recv(5); c.sendall(b'x' * 9)"
)


@contextlib.contextmanager
def _capturing(living, *words: str) -> Iterator[subprocess.Popen[str]]:
    capture = living.start("capture", *words)
    try:
        for line in capture.stderr:
            if "Capturing" in line:
                break
        yield capture
        capture.send_signal(signal.SIGINT)
        assert capture.communicate(timeout=SECONDS)[1].endswith(" none missing.\n")
        assert capture.returncode == 0
    finally:
        capture.kill()
        capture.wait()


def test_a_capture_holds_what_has_passed(living, lab):
    path = living.folder / "client.pcap"
    with _capturing(living, lab, "client:eth0", "-w", str(path)):
        living.run_in(lab, "client", "ping", "-c", "2", "-i", "0.01", "10.0.1.2")
    assert read_trace(path).packets == 4
    told = living.run("capture", lab, "client:eth1", "-w", str(path), status=1)
    assert "has no interface 'eth1', but eth0" in told


def test_packets_are_shown_as_they_pass(living, lab):
    with _capturing(living, lab, "client:eth0", "--live") as capture:
        living.run_in(lab, "client", "ping", "-c", "1", "10.0.1.2")
        assert "ICMP echo request" in capture.stdout.readline()


def test_what_happens_is_told_as_it_happens(living, lab):
    listener = living.start("events", lab, "--after", "0", "--json")
    try:
        first = json.loads(listener.stdout.readline())
        assert first["number"] == 1 and first["kind"] == "schedule"
        assert first["what"]["changes"]["loss"] == 0.01
        living.run("cut", lab, "client", "router", "--toward", "router")
        seen = first
        while (seen["kind"], seen["what"].get("toward")) != ("link", "router"):
            seen = json.loads(listener.stdout.readline())
        assert seen["about"] == "client:eth0-router:eth0" and seen["what"]["verb"] == "cut"
        living.run("restore", lab, "client", "router")
    finally:
        listener.kill()
        listener.communicate()


def test_a_death_is_told_and_what_asks_the_lab_then_hears_of_it(living):
    path = living.folder / "dies.yaml"
    path.write_text("name: dies\nnodes: {a: {}, b: {}}\nlinks: [{endpoints: [a, b], delay: 1ms}]\n")
    living.run("up", str(path))
    listener = living.start("events", "dies", "--after", "0")
    (record,) = (one for one in json.loads(living.run("ls", "--json")) if "dies" in str(one))
    _kill_emulator(record["record"]["pid"])
    assert "death     dies  reason=The link emulator was killed" in listener.stdout.readline()
    assert "failed: The link emulator was killed" in living.run("ls")
    assert "was killed by signal 9" in living.run("exec", "dies", "a", "--", "true", status=1)
    assert "was killed by signal 9" in living.run("down", "dies", status=1)
    out, _ = listener.communicate(timeout=SECONDS)
    assert "end       dies" in out


def _kill_emulator(holder: int) -> None:
    """Kill the emulator among the descendants of a holder."""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_bytes()
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == holder and b"testbed.emulator" in words:
                os.kill(int(path.name), signal.SIGKILL)
                return
    raise AssertionError("there is no emulator")


def test_the_virtual_clock_and_other_kernels_are_refused_with_the_reason(living):
    assert "does not wait for you" in living.run("--clock", "virtual", "up", "pair", status=1)
    told = living.run("--kernel", "uml", "ls", status=1)
    assert "another kernel ends with its command" in told


def test_a_shell_completes_labs_nodes_and_links(living, lab):
    def complete(line: str) -> list[str]:
        words = line.split(" ")
        environment = {
            **living.environment,
            "_TESTBED_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        completing = living.start(env=environment)
        out, _ = completing.communicate(timeout=SECONDS)
        return out.split()

    assert complete("testbed shell ver") == [lab]
    assert complete(f"testbed exec {lab} s") == ["server"]
    assert complete(f"testbed set {lab} client ") == ["router"]
    assert complete(f"testbed capture {lab} cl") == ["client:eth0"]


HOSTILE: list[tuple[str, object]] = [
    ("/nodes/client/run", {"argv": []}),
    ("/nodes/client/run", {"argv": ["a\0b"]}),
    ("/nodes/client/run", {"argv": ["true", "a\0b"]}),
    ("/nodes/client/run", {"argv": ["true"], "env": {"A=B": "x"}}),
    ("/nodes/client/run", {"argv": ["true"], "env": {"A": "\0"}}),
    ("/nodes/client/run", {"argv": ["true"], "timeout": 1e300}),
    ("/nodes/%00/run", {"argv": ["true"]}),
    ("/links/client/router/set", {"changes": {"toward": "client"}}),
    ("/links/client/router/set", {"changes": {"self": 1}}),
    ("/links/client/router/set", {"changes": {"delay": -1}}),
    ("/links/client/router/set", {"changes": {"delay": 1e300}}),
    ("/links/client/router/set", {"changes": {"delay": "50ms" * 10000}}),
    ("/links/client/router/set", {"changes": {"rate": True}}),
    ("/links/client/router/set", {"changes": {"loss": [[[]]]}}),
    ("/links/client/router/set", {"changes": {"jitter": {"spread": {}}}}),
    ("/links/client/router/cut", {"toward": "server"}),
    ("/nodes/router/functions/setup-proxy", {"options": {"self": 1}}),
    ("/nodes/router/functions/setup-proxy", {"options": {"mss": -1}}),
    ("/nodes/client/functions/nat", {"enabled": True}),
]


def test_hostile_requests_are_answered_with_what_is_wrong(living, lab):
    client = LabClient.of(lab)
    for path, body in HOSTILE:
        with pytest.raises(LabError) as caught:
            client.ask("POST", path, body)
        told = str(caught.value)
        assert len(told) < 1000 and "meanwhile" not in told, (path, body, told)
    with client.converse("/nodes/client/attach", {"argv": ["sleep", "9"]}, [0, 1, 2]) as talk:
        heard = talk.hear()
        assert "pid" in next(heard)
        talk.tell(signal=4711)
        assert "a signal, and not" in next(heard)["error"]
    assert client.record.log.read_text() == ""
