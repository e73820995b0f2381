"""Labs of tests: overridden, shared, broken, and what is told of them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from faces_pytest_project import ONLY_OURS, PAIR, kept, run_pytest

pytest_plugins = ["pytester"]

_BOXED = """
name: boxed
nodes: {client: {}, box: {kind: middlebox, outside: server, functions: [nat]}, server: {}}
links:
  - endpoints: [client:eth0, box:inside]
  - endpoints: [box:outside, server:eth0]
captures: [client:eth0]
"""
_KILL_CAPTURE = """
def break_lab(lab):
    (capture,) = lab.captures.values()
    os.kill(capture.process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    with pytest.raises(ProcessDied):
        while time.monotonic() < deadline:
            lab.check()
"""


def test_markers_and_parameters_override_a_topology(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_it="""
import pytest

pytestmark = pytest.mark.topology("pair", seed=3)
SLOW = {"links": {("client", "server"): {"delay": "20ms"}}}

@pytest.mark.topology("pair", emulator="userspace", **SLOW)
def test_marker(lab):
    assert (lab.topology.emulator, lab.topology.seed) == ("userspace", 0)
    assert lab["client"].ping("server") >= 0.04

@pytest.mark.parametrize("lab", [{}, SLOW, {"seed": 4}], indirect=True)
def test_parameters(lab, request):
    name = request.node.name
    slow = lab.plan.links[0].forward.delay == 0.02
    assert slow == name.endswith("[client-server:delay=20ms]"), name
    assert lab.topology.seed == (4 if name.endswith("[seed=4]") else 3), name

def test_option(lab):
    assert lab.topology.emulator == "userspace"

@pytest.mark.topology("pair", emulator="auto")
def test_marker_has_the_last_word(lab):
    assert lab.topology.emulator == "auto"

@pytest.mark.topology("pair", emulater="auto")
def test_mistake(lab): pass
"""
    )
    result = run_pytest(project, "--testbed-require", "--testbed-emulator=userspace", "-v")
    result.assert_outcomes(passed=6, errors=1)
    result.stdout.fnmatch_lines(["*did you mean 'emulator'*"])


_SHARED = f"""
import os, pytest, signal, time
from testbed.errors import ProcessDied

pytestmark = pytest.mark.topology("pair")
seen = []
{_KILL_CAPTURE}
def test_first(shared_lab): seen.append(shared_lab)

def test_second(shared_lab):
    assert shared_lab is seen[0]
    shared_lab["client"].ping("server")

def test_culprit(shared_lab): break_lab(shared_lab)

def test_innocent(shared_lab): raise AssertionError("never run")

def test_without_lab(): pass
"""


def test_a_shared_lab_is_built_once_and_its_breaker_named(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=_SHARED)
    result = run_pytest(project, "--testbed-require")
    result.assert_outcomes(passed=3, failed=1, errors=1)
    text = result.stdout.str()
    broken = "The lab 'pair' was broken by test_it.py::test_culprit: The capture of client:eth0"
    assert text.count(f"\n{broken}") == 2, text
    assert "never run" not in text
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_culprit*"])
    result.stdout.fnmatch_lines(["ERROR test_it.py::test_innocent*"])


def test_labs_of_fixtures_of_ones_own_are_looked_after(project: pytest.Pytester) -> None:
    project.makepyfile(
        conftest="""
import pytest

@pytest.fixture(scope="session")
def office(make_lab):
    with make_lab("pair", seed=5) as lab:
        yield lab
""",
        test_a="def test_one(office): assert office.topology.seed == 5",
        test_b=f"""
import os, pytest, signal, time
from testbed.errors import ProcessDied
{_KILL_CAPTURE}
def test_two(office):
    client, listener = office["client"].socket(), office["server"].listen(80)
    client.connect((office["server"].address, 80))
    client.close()
    assert False

def test_culprit(office): break_lab(office)

def test_three(office): pass

def test_in_a_test(make_lab):
    with make_lab("pair") as lab:
        lab["client"].ping("server")
        assert False
""",
    )
    result = run_pytest(project, "--testbed-require")
    result.assert_outcomes(passed=1, failed=3, errors=1)
    result.stdout.fnmatch_lines(["*was broken by test_b.py::test_culprit*"])
    result.stdout.fnmatch_lines(["*SYN seq 0*"])
    folders = {path.partition("/")[0] for path in kept(project)}
    assert {"test_b.py-test_two", "test_b.py-test_in_a_test"} <= folders


_FAILING = """
import pytest, socket

@pytest.mark.topology("boxed")
def test_it(lab):
    address = lab["server"].address
    listener = lab["server"].listen(80)
    for port in (80, 81, 80):
        with lab["client"].socket() as client:
            try:
                client.connect((address, port))
            except ConnectionRefusedError:
                pass
    assert False
"""


def test_a_failure_shows_network_middleboxes_and_the_connection_in_trouble(
    project: pytest.Pytester,
) -> None:
    (project.path / "topologies" / "boxed.yaml").write_text(_BOXED)
    project.makepyfile(test_it=_FAILING)
    plugins = ("-p", "metadata", "-p", "html")
    reports = ("--junit-xml=junit.xml", "--html=report.html")
    options = (*ONLY_OURS, *plugins, *reports, "--testbed-require")
    result = project.runpytest_subprocess(*options)
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    network, boxes, captures = (
        text.index(f"- testbed {part} -") for part in ("topology", "middleboxes", "captures")
    )
    assert "client (host)" in text[network:boxes] and "10.0.2." in text[network:boxes]
    assert "box: " in text[boxes:captures] and "  nat: " in text[boxes:captures]
    ladder = text[captures:].partition(" to 10.0.2.")[2]
    assert ladder.partition("\n")[0].endswith(":81") and "RST" in ladder
    (capture,) = kept(project)
    properties = ElementTree.parse(project.path / "junit.xml").iter("property")
    assert [(one.get("name"), one.get("value")) for one in properties] == [
        ("testbed_capture", str(project.path / "results/pytest" / capture))
    ]
    page = (project.path / "report.html").read_text()
    assert all(name in page for name in ("client-eth0.pcap", "ladder", "topology", "middleboxes"))


def test_with_a_time_out_and_anyio(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_it="""
import pytest

pytestmark = pytest.mark.topology("pair")

@pytest.fixture
def anyio_backend(): return "asyncio"

@pytest.mark.anyio
async def test_asynchronous(lab):
    import anyio
    listener = lab["server"].listen(80)
    def connect():
        with lab["client"].socket() as client:
            client.connect((lab["server"].address, 80))
    with anyio.fail_after(20):
        await anyio.to_thread.run_sync(connect)
        assert await lab["client"].acall(lambda: 3) == 3

@pytest.mark.timeout(1)
def test_waits_for_ever(lab):
    listener = lab["server"].listen(80)
    client = lab["client"].socket()
    client.connect((lab["server"].address, 80))
    client.recv(1)
"""
    )
    plugins = ("-p", "anyio.pytest_plugin", "-p", "pytest_timeout")
    result = project.runpytest_subprocess(*ONLY_OURS, *plugins, "--testbed-require")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Timeout*", "*testbed captures*", "*SYN seq 0*"])
    assert kept(project) == ["test_it.py-test_waits_for_ever/client-eth0.pcap"]


def test_the_emulator_that_is_not_there_skips(project: pytest.Pytester) -> None:
    delayed = PAIR.replace("server:eth0]\n", "server:eth0]\n    delay: 1ms\n")
    (project.path / "topologies" / "pair.yaml").write_text(delayed)
    project.makepyfile(
        """
import pytest
from testbed.doctor.probe import probe

@pytest.mark.topology("pair")
def test_it(lab): assert lab.emulator_name == "netem"

def test_expected(): assert not probe().inside.qdiscs.get("netem")
"""
    )
    result = run_pytest(project, "--testbed-emulator=netem")
    outcomes = result.parseoutcomes()
    if outcomes.get("skipped"):
        assert outcomes == {"passed": 1, "skipped": 1}
        result.stdout.fnmatch_lines(["*--testbed-kernel=uml*"])
    else:
        assert outcomes == {"passed": 1, "failed": 1}
