"""What every host does, be it a namespace of ours or a container of the engine's."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from lab_topologies import container, link

from testbed.errors import CommandFailed, KernelError, LabError, MissingProgram, TopologyError
from testbed.lab import Lab
from testbed.lab.defaults import PINNED_SYSCTLS
from testbed.topology.model import (
    Endpoint,
    Impairments,
    KernelFunctions,
    Node,
    Route,
    RouteMetrics,
    Ruleset,
    Topology,
)
from testbed.trace.pcap import CaptureFile
from testbed.traffic import Responder, exchange

PYTHON = ["/usr/bin/python3", "-S", "-c"]
LONG = 30.0
OWN = {
    "congestion_control": "reno",
    "sysctls": {"net.ipv4.tcp_sack": "0"},
    "routes": (Route(to="a", metrics=RouteMetrics(rto_min=1.0, initcwnd=3)),),
}
pytestmark = pytest.mark.skipif(
    not Path("/usr/bin/python3").exists(), reason="the containers have this machine's /usr"
)


def topology(kind: str, **changes: Any) -> Topology:
    """A host `a`, and a node `b` of the kind behind 10 ms."""
    node = container if kind == "container" else Node
    delay = Impairments(delay=0.01)
    return Topology(
        name="kinds",
        nodes={"a": Node(name="a"), "b": node(name="b", **{**OWN, **changes})},
        links=(link("a:eth0", "b:eth0", forward=delay, reverse=delay),),
        captures=(Endpoint("b", "eth0"),),
    )


@pytest.fixture(scope="module", params=["host", "container"])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of the node `b`."""
    return request.param


@pytest.fixture(scope="module")
def shared(kind, request):
    with pytest.MonkeyPatch.context() as patch:
        if kind == "container":
            engine = request.getfixturevalue("session_engine")
            patch.setenv("DOCKER_HOST", f"unix://{engine.path}")
        with Lab(topology(kind)) as lab:
            lab["b"].run(["true"])  # the first program brings what stays until the end
            yield lab


@pytest.fixture
def node(shared):
    return shared["b"]


def test_it_is_reached_through_the_emulated_link(shared, node):
    assert min(shared["a"].ping(node) for _ in range(4)) >= 0.02
    assert min(node.ping(shared["a"]) for _ in range(4)) >= 0.02
    shared.link("a", "b").cut()
    with pytest.raises(LabError):
        shared["a"].ping(node, timeout=0.3)
    shared.link("a", "b").restore()
    shared["a"].ping(node)


@pytest.mark.parametrize("family", [4, 6])
def test_its_sockets_are_sockets_of_this_process(shared, node, family):
    address = node.address if family == 4 else node.address6
    with Responder(node, address=address) as responder:
        found = exchange(shared["a"], responder)
    assert found.last_byte >= 0.02
    assert address.split("/")[0] in node.run(["ip", "address"]).stdout


def test_it_has_the_settings_of_its_plan_and_those_that_are_pinned(node):
    found = {name: node.sysctl(name) for name in PINNED_SYSCTLS}
    assert found == dict(PINNED_SYSCTLS)
    assert node.sysctl("net.ipv4.tcp_sack") == "0"
    node.set_sysctl("net.ipv4.tcp_ecn", 1)
    assert node.run(["cat", "/proc/sys/net/ipv4/tcp_ecn"]).stdout == "1\n"


def test_its_routes_have_metrics_and_a_congestion_control(shared, node):
    shown = node.run(["ip", "route", "show", "10.0.0.0/8"]).stdout
    route = node.run(["ip", "route", "get", shared["a"].address]).stdout
    assert "rto_min lock 1s" in shown + route and "initcwnd 3" in shown + route
    with node.listen() as listener, shared["a"].socket() as sock:
        sock.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(6, 13, 16).rstrip(b"\0") == b"reno"  # TCP_CONGESTION


def test_its_offloads_are_off_and_its_captures_complete(shared, node):
    size = 300_000
    with Responder(node, response=size) as responder:
        exchange(shared["a"], responder)
    capture = shared.captures["b:eth0"]
    capture.flush()
    lengths = [end - start for _, _, start, end, *_ in CaptureFile(capture.path).frames()]
    assert max(lengths) == 1514
    assert sum(lengths) > size


def test_status_streams_and_input_of_a_program(node):
    done = node.run(["sh", "-c", "cat; echo err >&2; exit 3"], input="in\n", check=False)
    assert (done.status, done.stdout, done.stderr) == (3, "in\n", "err\n")
    with pytest.raises(CommandFailed, match="status 3"):
        node.run(["sh", "-c", "exit 3"])


def test_its_environment_and_folder_are_those_asked_for(node):
    done = node.run(["sh", "-c", "echo $A; pwd"], env={"A": "1", "PATH": "/usr/bin"}, cwd="/usr")
    assert done.stdout == "1\n/usr\n"


def test_programs_see_the_node_as_their_machine(node):
    assert node.run(["hostname"]).stdout == "b\n"
    assert node.run(["ls", "/sys/class/net"]).stdout.split() == ["eth0", "lo"]
    hosts = node.run(["cat", "/etc/hosts"]).stdout.split("\n")
    assert [f"{node.address}", "b"] in [line.split() for line in hosts]
    node.run(["ping", "-c1", "-W5", "a"])
    seen = node.run(["ps", "-eo", "comm"]).stdout.split()
    assert "ps" in seen and "pytest" not in seen


def test_a_time_out_kills_all_that_a_program_started(node):
    with pytest.raises(CommandFailed, match="still running"):
        node.run(["sh", "-c", "setsid sleep 50.25 & sleep 50.25"], timeout=0.5)
    assert "50.25" not in node.run(["ps", "-eo", "args"]).stdout


def test_programs_tell_that_they_are_ready(node):
    listen = "import socket, time; s = socket.create_server(('', 6001)); time.sleep(60)"
    server = node.start([*PYTHON, listen], listening=6001, timeout=LONG)
    assert node.listening_ports() == {6001}
    server.signal(signal.SIGTERM)
    assert server.wait(LONG) == -signal.SIGTERM
    tell = "import os, time; os.write(int(os.environ['TESTBED_READY_FD']), b'x'); time.sleep(60)"
    told = node.start([*PYTHON, tell], ready_fd=True, timeout=LONG)
    assert told.running
    told.stop()


@pytest.mark.parametrize(
    ("argv", "options", "error"),
    [
        (["no-such-program"], {}, MissingProgram),
        (["/etc"], {}, CommandFailed),
        (["true"], {"cwd": "/no/such/folder"}, CommandFailed),
        ([], {}, LabError),
    ],
)
def test_what_cannot_be_started_is_told(node, argv, options, error):
    with pytest.raises(error):
        node.run(argv, **options)


def test_its_kernel_filters(kind, request):
    if kind == "container":
        request.getfixturevalue("engine")
    rule = "type filter hook input priority 0; tcp dport 81 reject with tcp reset;"
    rules = Ruleset("r.nft", f"table inet t {{ chain c {{ {rule} }}\n}}")
    with (
        Lab(topology(kind, kernel=KernelFunctions(nftables=rules))) as lab,
        lab["b"].listen(80) as open_port,
        lab["b"].listen(81) as filtered,
        lab["a"].socket() as heard,
        lab["a"].socket() as refused,
    ):
        heard.connect(open_port.getsockname())
        with pytest.raises(ConnectionRefusedError):
            refused.connect(filtered.getsockname())


def test_an_unknown_sysctl_is_told_with_its_node(kind, request):
    if kind == "container":
        request.getfixturevalue("engine")
    with pytest.raises(KernelError, match=r"node 'b': There is no sysctl net\.ipv4\.tcp_sakc"):
        Lab(topology(kind, sysctls={"net.ipv4.tcp_sakc": "0"})).__enter__()


def test_routes_to_nowhere_are_told(kind):
    with pytest.raises(TopologyError):
        Lab(topology(kind, routes=(Route(to="c"),)))
