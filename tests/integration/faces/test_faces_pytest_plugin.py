"""The pytest plugin, in pytest runs of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from faces_ordinary_user import OrdinaryUser
from faces_pytest_project import NO_OTHERS, ONLY_OURS, PAIR, kept, run_pytest

import testbed.pytest_plugin
from testbed.trace import read_trace

pytest_plugins = ["pytester"]

_EMULATED = PAIR.replace("[client:eth0, server:eth0]", "[client:eth0, server:eth0]\n    delay: 1ms")
_EXCHANGE = """
    listener = lab["server"].listen(80)
    client = lab["client"].socket()
    client.connect((lab["server"].address, 80))
    client.sendall(b"?")
    accepted, _ = listener.accept()
    assert accepted.recv(1) == b"?"
"""
_ONE_TEST = f"""
import pytest

@pytest.mark.topology("pair")
def test_exchange(lab):
{_EXCHANGE}
"""


def test_pytest_finds_the_plugin_by_itself() -> None:
    (found,) = entry_points(group="pytest11", name="testbed")
    assert found.load() is testbed.pytest_plugin


def test_every_way_to_name_a_topology(project: pytest.Pytester) -> None:
    (project.path / "sub").mkdir()
    (project.path / "sub" / "near.yaml").write_text(PAIR.replace("pair", "near"))
    (project.path / "sub" / "test_ways.py").write_text(
        f"""
import pytest
from pathlib import Path
from testbed import loads

FAR = Path(__file__).parent.parent / "topologies" / "pair.yaml"
OBJECT = loads(FAR.read_text().replace("pair", "object"))

@pytest.mark.topology("pair")
class TestName:
    def test_name(self, lab): assert lab.topology.name == "pair"

    @pytest.mark.topology("near.yaml")
    def test_nearer_marker_and_near_path(self, lab): assert lab.topology.name == "near"

@pytest.mark.topology("topologies/pair.yaml")
def test_path_from_root(lab): assert lab.topology.name == "pair"

@pytest.mark.topology(FAR)
def test_absolute_path(lab): assert lab.topology.name == "pair"

@pytest.mark.topology(OBJECT)
def test_object(lab):
{_EXCHANGE}

@pytest.mark.topology("pair")
@pytest.mark.parametrize("lab", ["near.yaml", OBJECT], indirect=True)
def test_parameter(lab): assert lab.topology.name in ("near", "object")
"""
    )
    run_pytest(project, "--testbed-require").assert_outcomes(passed=7)
    assert kept(project) == []


def test_a_failing_test_keeps_its_captures_and_names_them(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=_ONE_TEST + "    assert accepted is None\n")
    result = run_pytest(project, "--testbed-require")
    result.assert_outcomes(failed=1)
    assert kept(project) == ["test_it.py-test_exchange/client-eth0.pcap"]
    path = project.path / "results/pytest" / kept(project)[0]
    (connection,) = read_trace(path).connections
    assert connection.by_initiator.unique_bytes == 1
    result.stdout.fnmatch_lines(["*testbed captures*", str(path), "*initiator*", "*SYN seq 0*"])


_FAILING_FIXTURE = """
@pytest.fixture
def fragile{request}:
    yield
    raise AssertionError("in teardown")
"""


@pytest.mark.parametrize("request_", ["(lab)", "()"], ids=["before the lab", "after the lab"])
def test_a_fixture_that_fails_in_teardown_keeps_the_captures(
    project: pytest.Pytester, request_: str
) -> None:
    order = "lab, fragile" if request_ == "(lab)" else "fragile, lab"
    test = _ONE_TEST.replace("(lab)", f"({order})")
    project.makepyfile(test_it=test + _FAILING_FIXTURE.format(request=request_))
    result = run_pytest(project, "--testbed-require")
    result.assert_outcomes(passed=1, errors=1)
    assert kept(project) == ["test_it.py-test_exchange/client-eth0.pcap"]
    (connection,) = read_trace(project.path / "results/pytest" / kept(project)[0]).connections
    assert connection.by_initiator.unique_bytes == 1
    result.stdout.fnmatch_lines(["*testbed captures*"])


def test_captures_that_are_kept_have_what_was_under_way(project: pytest.Pytester) -> None:
    far = _EMULATED.replace("1ms", "400ms").replace("captures: [client", "captures: [server")
    (project.path / "topologies" / "pair.yaml").write_text(far)
    sent = "\n".join(_ONE_TEST.partition('    client.sendall(b"?")\n')[:2])
    project.makepyfile(test_it=sent + "    raise AssertionError\n")
    run_pytest(project, "--testbed-require").assert_outcomes(failed=1)
    (path,) = kept(project)
    (connection,) = read_trace(project.path / "results/pytest" / path).connections
    assert connection.by_initiator.unique_bytes == 1


def test_captures_are_kept_when_a_later_fixture_fails(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_it="""
import pytest

@pytest.fixture
def prepared(lab):
    lab["client"].ping("server")
    raise RuntimeError("not prepared")

@pytest.mark.topology("pair")
def test_it(prepared): pass
"""
    )
    run_pytest(project, "--testbed-require").assert_outcomes(errors=1)
    assert kept(project) == ["test_it.py-test_it/client-eth0.pcap"]


def test_captures_of_passing_tests_are_kept_on_demand(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=_ONE_TEST)
    run_pytest(project, "--testbed-keep").assert_outcomes(passed=1)
    assert kept(project) == ["test_it.py-test_exchange/client-eth0.pcap"]
    run_pytest(project, "--testbed-keep=elsewhere").assert_outcomes(passed=1)
    assert kept(project, "elsewhere") == ["test_it.py-test_exchange/client-eth0.pcap"]


def test_the_keep_option_swallows_no_path(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=_ONE_TEST)
    result = run_pytest(project, "--testbed-keep", "test_it.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--testbed-keep=DIR*"])


def test_captures_that_cannot_be_kept_are_no_second_failure(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=_ONE_TEST + "    assert accepted is None\n")
    (project.path / "file").write_text("in the way")
    result = run_pytest(project, "--testbed-keep=file/below")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*could not be kept*"])


def test_topologies_that_cannot_be_used_are_told_without_traceback(
    project: pytest.Pytester,
) -> None:
    (project.path / "topologies" / "bad.yaml").write_text("name: bad\nnodes: {a: {kind: hots}}\n")
    project.makepyfile(
        """
import pytest

def test_no_marker(lab): pass

@pytest.mark.topology("pear")
def test_unknown(lab): pass

@pytest.mark.topology("bad")
def test_bad(lab): pass

@pytest.mark.topology(3)
def test_number(lab): pass
"""
    )
    result = run_pytest(project)
    result.assert_outcomes(errors=4)
    text = result.stdout.str()
    assert "Traceback" not in text and "pytest_plugin.py" not in text
    assert "needs to know its topology" in text
    assert "no topology 'pear'" in text and "did you mean 'pair'" in text
    assert "bad.yaml:2: nodes.a.kind" in text
    assert "not 3" in text


def test_a_lab_that_breaks_is_told_after_the_test(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
import os, pytest, signal, time
from pathlib import Path
from testbed.errors import ProcessDied

def is_our_capture(process):
    try:
        command = (process / "cmdline").read_bytes()
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
    except OSError:  # any process of the machine may end meanwhile
        return False
    return b"tcpdump" in command and int(parent) == os.getpid()

@pytest.mark.topology("pair")
def test_capture_dies(lab):
    (capture,) = (
        int(process.name) for process in Path("/proc").glob("[0-9]*") if is_our_capture(process)
    )
    os.kill(capture, signal.SIGKILL)
    deadline = time.monotonic() + 30
    with pytest.raises(ProcessDied):
        while time.monotonic() < deadline:
            lab.check()
"""
    )
    result = run_pytest(project, "--testbed-require")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*capture of client:eth0 was killed by signal 9*"])


def test_in_parallel_and_in_asynchronous_tests(project: pytest.Pytester) -> None:
    plugins = [*ONLY_OURS, "-p", "xdist", "-p", "pytest_asyncio.plugin"]
    exchanges = "\n".join(
        f'@pytest.mark.topology("pair")\ndef test_exchange_{number}(lab):{_EXCHANGE}'
        for number in range(4)
    )
    project.makepyfile(
        "import asyncio\nimport pytest\n"
        + exchanges
        + """
@pytest.mark.asyncio
@pytest.mark.topology("pair")
async def test_asynchronous(lab):
    loop = asyncio.get_running_loop()
    listener = lab["server"].listen(80)
    listener.setblocking(False)
    client = lab["client"].socket()
    client.setblocking(False)
    accepting = asyncio.create_task(loop.sock_accept(listener))
    await loop.sock_connect(client, (lab["server"].address, 80))
    accepted, _ = await accepting

@pytest.mark.topology("pair")
def test_failing(lab): lab["client"].ping("server"); assert False
"""
    )
    result = project.runpytest_subprocess(*plugins, "-n", "2", "--testbed-require")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["*testbed captures*"])
    assert len(kept(project)) == 1


def _without_tcpdump(project: pytest.Pytester, *options: str) -> str:
    hide = 'mount --bind /dev/null "$(readlink -f "$(command -v tcpdump)")" && exec "$@"'
    inside = ["unshare", "--mount", "--propagation", "private", "bash", "-c", hide, "bash"]
    done = subprocess.run(
        [*inside, sys.executable, "-m", "pytest", *ONLY_OURS, "-rs", *options],
        cwd=project.path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="hiding a program takes root")
def test_what_the_machine_lacks_skips_with_a_reason_or_fails(project: pytest.Pytester) -> None:
    project.makepyfile(
        _ONE_TEST
        + """
@pytest.mark.topology("bare")
def test_without_captures(lab): pass
"""
    )
    (project.path / "topologies" / "bare.yaml").write_text(PAIR.rpartition("captures")[0])
    told = _without_tcpdump(project)
    assert "1 passed, 1 skipped" in told
    assert "no lab here: tcpdump: not installed" in told and "apt-get install tcpdump" in told
    assert "testbed: tests without a lab" in told and "--testbed-require makes them fail" in told
    told = _without_tcpdump(project, "--testbed-require")
    assert "1 passed, 1 error" in told and "apt-get install tcpdump" in told


def test_an_ordinary_user_gets_labs(ordinary_user: OrdinaryUser) -> None:
    home = Path(ordinary_user.home)
    (home / "topologies").mkdir(exist_ok=True)
    (home / "topologies" / "pair.yaml").write_text(_EMULATED)
    (home / "pytest.ini").write_text("[pytest]\n")
    (home / "test_it.py").write_text(_ONE_TEST)
    arguments = ["-m", "pytest", *ONLY_OURS, "-rs", "test_it.py"]
    done = ordinary_user.run(*arguments, environment=NO_OTHERS)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    done = ordinary_user.run(*arguments, environment=NO_OTHERS, tun_mode="0600")
    assert "1 skipped" in done.stdout and "chmod 0666 /dev/net/tun" in done.stdout
    assert "--testbed-clock=virtual" in done.stdout
