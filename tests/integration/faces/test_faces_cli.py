"""The commands as a user types them: output, messages, exit status, never a traceback."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest
import yaml

from testbed import Lab
from testbed.cli import main

_ROOT = Path(__file__).parents[3]
_DOCOMO = _ROOT / "topologies" / "docomo.yaml"
_ESCAPE = "\x1b"


class Testbed:
    """Runs commands in this process: the same function, without the start of an interpreter."""

    __test__ = False

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, *arguments: str | Path) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["testbed", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        status = ended.value.code or 0
        assert isinstance(status, int)
        return Done(status, *self._capfd.readouterr())

    def fails(self, status: int, *arguments: str | Path) -> str:
        """The message of a command that must end with this status."""
        done = self(*arguments)
        assert done.status == status, done.stdout + done.stderr
        assert done.stderr.strip()
        return done.stderr


class Done(NamedTuple):
    status: int
    stdout: str
    stderr: str


@pytest.fixture
def testbed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Testbed:
    monkeypatch.delenv("COLUMNS", raising=False)  # some runners set it for their own output
    return Testbed(monkeypatch, capfd)


def _process(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a program of its own."""
    return _python("-m", "testbed", *map(str, arguments), **environment)


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=_ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def pcaps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """A connection through the docomo topology, captured at both ends."""
    folder = tmp_path_factory.mktemp("pcaps")
    with Lab(_DOCOMO, captures=folder) as lab:
        listener = lab["server"].listen(80)
        client = lab["gateway"].socket()
        client.connect((lab["server"].address, 80))
        client.sendall(b"?" * 100)
        accepted, _ = listener.accept()
        assert accepted.recv(100)
    yield [folder / "gateway-eth0.pcap", folder / "server-eth0.pcap"]


# -- help, version, usage -------------------------------------------------------------------


def test_help_lists_the_commands_and_every_command_has_an_example(testbed: Testbed) -> None:
    told = testbed("--help").stdout
    for command in ("check", "plan", "schema", "trace", "ladder", "doctor"):
        assert command in told
        assert f"testbed {command}" in testbed(command, "--help").stdout.split("Example")[1]


def test_version(testbed: Testbed) -> None:
    assert testbed("--version").stdout == testbed("version").stdout == "testbed 0.1.0\n"


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["plan"], ["plan", "--wat", "x"], ["ladder", "x", "--limit", "0"]]
)
def test_a_senseless_command_line_has_status_2(testbed: Testbed, arguments: list[str]) -> None:
    testbed.fails(2, *arguments)


# -- topologies -----------------------------------------------------------------------------


def test_plan_shows_nodes_links_and_routes(testbed: Testbed) -> None:
    told = testbed("plan", _DOCOMO).stdout
    for expected in ("gateway", "10.0.1.1/24", "setup-proxy", "10ms", "rto min 1s", "middlebox"):
        assert expected in told
    assert _ESCAPE not in told


def test_a_topology_of_testbed_is_planned_and_checked_by_its_name(testbed: Testbed) -> None:
    assert testbed("plan", "docomo").stdout == testbed("plan", _DOCOMO).stdout
    assert "docomo: ok" in testbed("check", "docomo").stdout
    testbed.fails(1, "plan", "no-such")


def test_plan_as_json_is_json_alone(testbed: Testbed) -> None:
    told = json.loads(testbed("plan", _DOCOMO, "--json").stdout)
    assert told["nodes"]["gateway"]["interfaces"][0]["addresses"][0] == "10.0.1.1/24"
    assert len(told["links"]) == 2


def test_plan_prints_hostile_names_as_text(testbed: Testbed, tmp_path: Path) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_text('name: x\ndescription: "[bold]no[/wrong] markup"\nnodes: {a: {}}\n')
    assert "[bold]no[/wrong] markup" in testbed("plan", path).stdout


def test_check_judges_every_file(testbed: Testbed, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\nnodes: {a: {}}\nlinks: [{endpoints: [a, b], delay: 3}]\n")
    done = testbed("check", bad, _DOCOMO)
    assert done.status == 1
    assert "docomo.yaml: ok" in done.stdout
    assert f"{bad}:3" in done.stderr
    assert "links[0].delay" in done.stderr and "links[0].endpoints" in done.stderr
    assert testbed("check", _DOCOMO).status == 0


@pytest.mark.parametrize("command", ["plan", "check"])
def test_bad_topologies_are_refused_with_a_message(
    testbed: Testbed, command: str, tmp_path: Path
) -> None:
    assert "No such file" in testbed.fails(1, command, tmp_path / "absent.yaml")
    assert str(tmp_path) in testbed.fails(1, command, tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(bytes(range(256)))
    assert str(binary) in testbed.fails(1, command, binary)


def test_messages_cannot_drive_the_terminal(testbed: Testbed, tmp_path: Path) -> None:
    assert _ESCAPE not in testbed.fails(1, "plan", tmp_path / f"{_ESCAPE}[31mred")


def test_schema_accepts_the_topologies(testbed: Testbed, tmp_path: Path) -> None:
    schema = json.loads(testbed("schema").stdout)
    jsonschema.validate(yaml.safe_load(_DOCOMO.read_text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x", "nodes": {"a": {"kind": "hots"}}}, schema)
    path = tmp_path / "schema.json"
    assert testbed("schema", "--out", path).stdout == ""
    assert json.loads(path.read_text()) == schema
    assert "cannot be written" in testbed.fails(
        1, "schema", "--out", tmp_path / "no" / "such" / "folder"
    )


# -- captures -------------------------------------------------------------------------------


def test_trace_tabulates_each_capture(testbed: Testbed, pcaps: list[Path]) -> None:
    done = testbed("trace", *pcaps)
    assert done.status == 0, done.stderr
    assert "10.0.2.2:80" in done.stdout and str(pcaps[1]) in done.stdout
    told = json.loads(testbed("trace", *pcaps, "--json").stdout)
    assert [one["connections"][0]["bytes_by_initiator"] for one in told] == [100, 100]


def test_trace_filters_and_sorts(testbed: Testbed, pcaps: list[Path]) -> None:
    def shown(*options: str) -> list[int]:
        told = json.loads(testbed("trace", pcaps[0], "--json", *options).stdout)
        return [connection["number"] for connection in told[0]["connections"]]

    everything = shown()
    assert shown("--host", "10.0.0.0/8") == everything != []
    assert shown("--host", "192.0.2.1") == shown("--port", "9") == []
    assert sorted(shown("--sort", "bytes")) == everything
    assert shown("--limit", "1") == everything[:1]
    assert "not 'nowhere'" in testbed.fails(1, "trace", pcaps[0], "--host", "nowhere")


def test_trace_reads_standard_input_and_damaged_files(
    testbed: Testbed, pcaps: list[Path], tmp_path: Path
) -> None:
    whole = pcaps[0].read_bytes()
    command = [sys.executable, "-m", "testbed", "trace", "-", "--json"]
    done = subprocess.run(command, input=whole, stdout=subprocess.PIPE, timeout=60, check=True)
    (told,) = json.loads(done.stdout)
    assert (told["file"], len(told["connections"])) == ("-", 1)
    damaged = tmp_path / "damaged.pcap"
    damaged.write_bytes(whole + bytes(8) + b"\xff" * 40)
    done = testbed("trace", damaged)
    assert (done.status, done.stderr) == (1, "")
    assert f"damaged at byte {len(whole)}" in done.stdout


def test_ladder_draws_text_picture_and_data(
    testbed: Testbed, pcaps: list[Path], tmp_path: Path
) -> None:
    done = testbed("ladder", *pcaps, "--columns", "gateway,router,server", "--width", "120")
    assert done.status == 0, done.stderr
    assert "gateway" in done.stdout and "answered by router" in done.stdout
    plain = testbed("ladder", *pcaps, "--ascii").stdout
    assert plain.isascii()
    svg = tmp_path / "ladder.svg"
    assert testbed("ladder", *pcaps, "--svg", svg).stdout == ""
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    told = json.loads(testbed("ladder", *pcaps, "--json", "--limit", "2").stdout)
    assert told["omitted"] > 0 and len(told["rows"]) == 2


def test_ladder_keeps_to_ascii_where_the_encoding_does(pcaps: list[Path]) -> None:
    done = _process("ladder", *pcaps, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() and "SYN" in done.stdout


def test_captures_that_are_none_are_refused_with_a_message(
    testbed: Testbed, pcaps: list[Path], tmp_path: Path
) -> None:
    not_one = tmp_path / "not-a.pcap"
    not_one.write_text("not a capture at all, but long enough for a header")
    empty = tmp_path / "empty.pcap"
    empty.write_bytes(struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
    for command in ("trace", "ladder"):
        assert str(not_one) in testbed.fails(1, command, not_one)
        assert "absent.pcap" in testbed.fails(1, command, tmp_path / "absent.pcap")
    assert "no TCP connection" in testbed.fails(1, "ladder", empty)
    assert "no connection 7" in testbed.fails(1, "ladder", pcaps[0], "--connection", "7")
    assert "columns" in testbed.fails(1, "ladder", pcaps[0], "--columns", "a,b,c")
    assert "cannot be written" in testbed.fails(
        1, "ladder", pcaps[0], "--svg", tmp_path / "no" / "x.svg"
    )


# -- the machine, and the terminal ------------------------------------------------------------


def test_doctor_says_what_stops_labs_and_nothing_does_here(testbed: Testbed) -> None:
    done = testbed("doctor")
    assert done.status == 0, done.stdout
    assert "Labs can be built here" in done.stdout
    told = json.loads(testbed("doctor", "--json").stdout)
    assert told["labs"] is True
    states = {one["what"]: one["state"] for one in told["findings"]}
    assert states["network namespaces"] == states["pid namespaces"] == "ok"
    assert os.uname().release in json.dumps(told)


def test_doctor_tells_of_a_missing_program_and_how_to_get_it() -> None:
    """In a mount namespace where /dev/null lies over tcpdump."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    hide = 'mount --bind /dev/null "$(readlink -f "$(command -v tcpdump)")" && exec "$@"'
    inside = ["unshare", "--mount", "--propagation", "private", "bash", "-c", hide, "bash"]
    done = subprocess.run(
        [*inside, sys.executable, "-m", "testbed", "doctor", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = json.loads(done.stdout)
    (tcpdump,) = (one for one in told["findings"] if one["what"] == "tcpdump")
    assert tcpdump["state"] == "missing"
    assert tcpdump["cure"] == "apt-get install tcpdump"
    assert told["labs"] is True and done.returncode == 0


def test_as_a_program_it_refuses_bad_input_in_a_few_words(tmp_path: Path) -> None:
    done = _process("plan", tmp_path / "absent.yaml")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("testbed: ") and "No such file" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m testbed plan topologies/lan.yaml"
    done = subprocess.run(
        ["bash", "-c", f"{command} | true"], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def _main_with(function: str) -> str:
    """A program that is `testbed plan`, loading the topology by another function."""
    return (
        f"import sys, time\n{function}\n"
        "import testbed.topology.yaml.load\n"
        "testbed.topology.yaml.load.load = load\n"
        "sys.argv[1:] = ['plan', 'x.yaml']\n"
        "from testbed.cli import main\n"
        "main()\n"
    )


def test_ctrl_c_ends_quietly() -> None:
    hang = _main_with("def load(*_, **__): print('hanging', flush=True); time.sleep(60)")
    with subprocess.Popen(
        [sys.executable, "-c", hang], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "hanging\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == ""


def test_a_bug_keeps_its_traceback() -> None:
    done = _python("-c", _main_with("def load(*_, **__): raise RuntimeError('a bug')"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "RuntimeError: a bug" in done.stderr


@pytest.mark.parametrize(("variable", "coloured"), [("WANTED=1", True), ("NO_COLOR=1", False)])
def test_colour_is_for_terminals_and_can_be_refused(variable: str, coloured: bool) -> None:
    name, _, value = variable.partition("=")
    environment = {key: text for key, text in os.environ.items() if key != "NO_COLOR"}
    environment |= {"TERM": "xterm-256color", name: value}
    done = subprocess.run(
        ["script", "-qec", f"{sys.executable} -m testbed doctor", "/dev/null"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Labs can be built here" in done.stdout
    assert (f"{_ESCAPE}[32m" in done.stdout) == coloured
