"""Containers as nodes: what is theirs alone, and that none is ever left."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from lab_topologies import container, link
from own_engine import BASE, OwnEngine

from testbed.containers.container import RunningContainer, start_container
from testbed.containers.images import ImageWanted, obtain
from testbed.containers.owner import OWNER, OwnerLabel
from testbed.errors import EngineError, LabError, ProcessDied
from testbed.lab import Lab
from testbed.lab.kinds.container import ContainerNode
from testbed.loading import load
from testbed.topology.kinds.container import HealthCheck
from testbed.topology.model import Endpoint, Node, Topology
from testbed.topology.yaml.load import loads

HERE = Path(__file__).parent
SOON = 20.0


def with_container(*, captures=(), **settings) -> Topology:
    """A host `a` and a container `b` on one cable."""
    return Topology(
        name="one-container",
        nodes={"a": Node(name="a"), "b": container(name="b", settings=settings)},
        links=(link("a:eth0", "b:eth0"),),
        captures=tuple(Endpoint(node, "eth0") for node in captures),
    )


def running(lab: Lab) -> RunningContainer:
    """The container of the node `b`."""
    node = lab["b"]
    assert isinstance(node, ContainerNode)
    return node.container


def test_what_is_asked_for_holds_for_its_command_and_for_programs(engine, tmp_path):
    (tmp_path / "file").write_text("from the host")
    asked = with_container(
        environment={"COLOUR": "blue"},
        mounts=(
            {"source": "/usr", "target": "/usr"},
            {"source": str(tmp_path), "target": "/mnt", "writable": True},
        ),
        capabilities=("NET_ADMIN",),
        memory=64 << 20,
        cpus=0.5,
        command=("sh", "-c", "echo $COLOUR $(cat /mnt/file); exec sleep infinity"),
        health={"command": ("sh", "-c", "echo healthy >/mnt/healthy")},
    )
    with Lab(asked) as lab:
        assert (tmp_path / "healthy").read_text() == "healthy\n"
        node = lab["b"]
        assert node.log() == ["blue from the host"]
        told = node.run(["sh", "-c", "echo $COLOUR; cat /proc/self/status /proc/1/status"]).stdout
        bounds = [line.split()[1] for line in told.splitlines() if line.startswith("CapBnd")]
        assert told.startswith("blue\n") and bounds[0] == bounds[1]
        assert int(bounds[0], 16) >> 12 & 1 and not int(bounds[0], 16) >> 21 & 1
        groups = node.run(["cat", "/proc/self/cgroup"]).stdout
        assert groups == node.run(["cat", "/proc/1/cgroup"]).stdout
        assert running(lab).id in groups
        eater = "b = bytearray(200 << 20); print(len(b))"
        assert node.run(["python3", "-c", eater], check=False).status == -9
        node.run(["ip", "link", "set", "lo", "down"])  # CAP_NET_ADMIN


def test_programs_of_the_image_are_run_as_its_user(engine, tmp_path):
    (tmp_path / "Dockerfile").write_text(
        f"FROM {BASE}\nCOPY passwd group /etc/\nUSER web\nWORKDIR /var\nENV A=1\n"
    )
    (tmp_path / "passwd").write_text("root:x:0:0::/:/bin/sh\nweb:x:33:44::/tmp:/bin/sh\n")
    (tmp_path / "group").write_text("more:x:55:web\n")
    with Lab(with_container(image=None, build=str(tmp_path))) as lab:
        said = lab["b"].run(["sh", "-c", "id -u; id -g; id -G; pwd; echo $A $HOME"]).stdout
        assert said.split("\n")[:-1] == ["33", "44", "44 55", "/var", "1 /tmp"]
        assert lab["b"].run(["grep", "CapEff", "/proc/self/status"]).stdout.split()[1] == "0" * 16


def test_a_container_that_is_not_healthy_in_time_is_told_with_what_it_said(engine):
    sick = with_container(
        command=("sh", "-c", "echo I am ill; exec sleep infinity"),
        health={"command": ("sh", "-c", "echo no pulse; exit 7"), "deadline": 3.0},
    )
    with pytest.raises(LabError, match=r"not ready after 3 s.*status 7.*no pulse.*I am ill"):
        Lab(sick).__enter__()
    hangs = with_container(health=HealthCheck(command=("sleep", "50"), deadline=0.5))
    with pytest.raises(LabError, match=r"Its check sleep 50 did not end"):
        Lab(hangs).__enter__()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"command": ("true",)}, r"ended, status 0|has ended"),
        ({"command": ("no-such-program",)}, "no-such-program"),
        ({"image": "no-such/image"}, r"has no image no-such/image\. Build it, or have it pulled"),
        ({"image": "localhost:9/none", "pull": True}, "pull of the image localhost:9/none"),
        ({"capabilities": ("SYS_RESOURCE",)}, r"leave out of `capabilities:`"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_the_engine_refuses_is_explained(engine, settings, told):
    lacks = int(_status(os.getpid(), "CapBnd"), 16) >> 24 & 1 == 0
    if "capabilities" in settings and not lacks:
        pytest.skip("this machine's engine may give CAP_SYS_RESOURCE")
    with pytest.raises((EngineError, LabError, ProcessDied), match=told):
        Lab(with_container(**settings)).__enter__()


def _status(pid: int, field: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return line.split()[1]
    raise AssertionError(field)


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("tcp://192.0.2.1:2375", r"DOCKER_HOST is tcp.*Set it to unix://PATH"),
        ("unix:///no/such.sock", r"No container engine answers at /no/such\.sock.*docker\.io"),
    ],
)
def test_an_engine_that_is_not_there_is_told_before_anything_is_built(monkeypatch, host, told):
    monkeypatch.setenv("DOCKER_HOST", host)
    lab = Lab(with_container())
    with pytest.raises(EngineError, match=told):
        lab.__enter__()
    assert not lab.nodes


def test_an_engine_that_is_too_old_is_told(monkeypatch, tmp_path):
    class Old(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"Version": "19.03.1", "ApiVersion": "1.40"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None:
            pass

    path = str(tmp_path / "old.sock")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    with socketserver.ThreadingUnixStreamServer(path, Old) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(
            EngineError, match=r"too old: version 19\.03\.1 .*Install Docker 20\.10"
        ):
            Lab(with_container()).__enter__()
        server.shutdown()


def test_a_container_that_ends_is_the_end_of_the_lab_and_its_log_is_kept(engine, tmp_path):
    mortal = with_container(
        command=("sh", "-c", "mkfifo /tmp/gate; echo farewell; read x </tmp/gate; exit 3"),
        health={"command": ("test", "-p", "/tmp/gate")},
    )
    with (
        pytest.raises(ProcessDied, match=r"The container 'b' ended, status 3.*farewell"),
        Lab(mortal, captures=tmp_path) as lab,
    ):
        listener = lab["a"].listen(80)
        lab["b"].start(["sh", "-c", "echo >/tmp/gate"])
        listener.accept()
    assert (tmp_path / "b.log").read_text() == "farewell\n"


def test_logs_are_kept_when_the_block_fails_and_only_then(engine, tmp_path):
    speaks = with_container(command=("sh", "-c", "echo hello; exec sleep infinity"))
    with Lab(speaks, captures=tmp_path) as lab:
        while not lab["b"].log():
            time.sleep(0.01)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError), Lab(speaks, captures=tmp_path) as lab:
        while not lab["b"].log():
            time.sleep(0.01)
        raise ZeroDivisionError
    assert (tmp_path / "b.log").read_text() == "hello\n"


def test_an_image_is_built_once_and_again_when_its_folder_has_changed(session_engine, tmp_path):
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"FROM {BASE}\nENV A=1\n")
    wanted = ImageWanted(None, str(tmp_path), False)
    with session_engine.connection() as engine:
        first = obtain(engine, wanted)
        made = engine.image(first)["Created"]
        assert obtain(engine, wanted) == first and engine.image(first)["Created"] == made
        dockerfile.write_text(f"FROM {BASE}\nENV A=2\n")
        assert obtain(engine, wanted) != first
        dockerfile.write_text(f"FROM {BASE}\nBROKEN\n")
        with pytest.raises(EngineError, match=r"build of .*BROKEN"):
            obtain(engine, wanted)


def test_containers_of_the_dead_are_swept_and_others_are_left(engine, session_engine):
    me = OwnerLabel.of_this_thread()
    dead = msgspec.structs.replace(me, started=me.started - 1)
    elsewhere = msgspec.structs.replace(dead, pids=me.pids + 1)
    labels = {"dead": encoded(dead), "elsewhere": encoded(elsewhere), "alien": "x", "mine": None}
    labels["mine"] = encoded(me)
    with session_engine.connection() as connection:
        for name, label in labels.items():
            connection.api.create_container(BASE, "true", name=name, labels={OWNER: label})
        try:
            with Lab(with_container()):
                pass
            assert sorted(session_engine.containers()) == ["/alien", "/elsewhere", "/mine"]
        finally:
            for name in labels:
                connection.remove(name)


def encoded(label: OwnerLabel) -> str:
    return msgspec.json.encode(label).decode()


def test_a_lab_whose_keeper_was_killed_leaves_no_container(engine):
    with Lab(with_container()):
        threads = Path("/proc/self/task").glob("[0-9]*/children")
        children = " ".join(path.read_text() for path in threads).split()
        (keeper,) = (
            int(pid)
            for pid in children
            if b"keeper.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(keeper, signal.SIGKILL)


def test_an_interrupted_build_leaves_nothing(engine, monkeypatch):
    def interrupted(*arguments):
        start_container(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr("testbed.lab.kinds.container.start_container", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Lab(with_container()).__enter__()


@pytest.mark.timeout(240)
def test_killed_labs_leave_neither_containers_nor_processes(engine):
    assert killed(engine, rounds=3) == {"containers": [], "processes": [], "while_running": 1}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fifty_killed_labs_leave_nothing(engine):
    found = killed(engine, rounds=50)
    assert 5 < found.pop("while_running") < 50
    assert found == {"containers": [], "processes": []}


def killed(engine: OwnEngine, rounds: int) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, HERE / "container_rounds.py", str(rounds), "1"],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + SOON
    while (left := engine.containers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return {**json.loads(done.stdout), "containers": left}


@pytest.mark.parametrize("rounds", [2, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.timeout(1800)
def test_a_lab_whose_engine_is_killed_leaves_nothing(session_engine, monkeypatch, rounds):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{session_engine.path}")
    for _ in range(rounds):
        told = r"does not answer.*Their processes are killed; the next lab with containers removes"
        with pytest.raises(EngineError, match=told), Lab(with_container()) as lab:
            pid = running(lab).pid
            session_engine.kill_daemon()
            lab["a"].ping("b")  # the lab does without the engine
            assert lab["b"].run(["echo", "still here"]).stdout == "still here\n"
        assert not Path(f"/proc/{pid}").exists() or _status(pid, "State") == "Z"
        session_engine.restart()
    with Lab(with_container()):  # sweeps
        pass
    assert session_engine.containers() == []


def test_docomo_and_the_web_server_load_as_they_are_shipped():
    for name in ("docomo-containers", "web-idle-timeout"):
        topology = load(f"topologies/{name}.yaml")
        kinds = {node.kind for node in topology.nodes.values()}
        assert {"container", "middlebox"} <= kinds


def test_files_are_relative_to_the_topology(tmp_path):
    (tmp_path / "web").mkdir()
    text = "name: t\nnodes: {a: {kind: container, build: web}, b: }\nlinks: [{endpoints: [a, b]}]"
    source = str(tmp_path / "t.yaml")
    with pytest.raises(Exception, match=r"nodes\.a\.build: there is no Dockerfile in .*/web"):
        loads(text, source)
    (tmp_path / "web" / "Dockerfile").touch()
    assert loads(text, source).nodes["a"].settings["build"] == str(tmp_path / "web")
