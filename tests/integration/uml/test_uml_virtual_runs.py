"""`testbed` by the virtual clock: the same packets for the same seed, however they are made."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import testbed
from testbed.kernel.uml import boot as uml
from testbed.kernel.uml.store import built_kernels
from testbed.scenarios.replaying import compare

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        uml.inside() or not any(kernel.current for kernel in built_kernels()),
        reason="needs a kernel of `testbed kernel build`, and a kernel around it",
    ),
]

SCRIPT = """
import sys
from testbed import Lab, loads
links = "[{endpoints: [a, b], delay: 10ms}]"
with Lab(loads(f"{{name: x, nodes: {{a: {{}}, b: {{}}}}, links: {links}}}")) as lab:
    lab["a"].ping("b")
    print(sys.argv[1], lab["a"].ping("b"))
open("kept/told", "w").write("kept")
"""


def command(*words: str, status: int = 0, **settings) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "testbed", *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **settings,
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def docomo(out: Path, *words: str, **settings) -> dict:
    # One cell, three times.
    cell = ("-p", "proxy=drop", "-p", "handshake=bare", "--repeat", "3")
    command("run", "docomo", *cell, "--clock", "virtual", "--out", str(out), *words, **settings)
    return json.loads((out / "result.json").read_text())


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("virtual") / "first"
    docomo(folder)
    return folder


def test_a_result_tells_its_clock_and_what_was_asked(first: Path):
    told = json.loads((first / "result.json").read_text())
    (kernel,) = told["asked"]["kernels"].values()
    assert told["environment"]["clock"] == "virtual"
    assert kernel.startswith(f"{told['environment']['kernel']}-")
    assert (told["asked"]["seed"], told["asked"]["repeat"]) == (1, 3)
    assert told["passed"]
    assert told["trustworthy"]


def test_a_replay_proves_that_the_packets_are_the_same(first: Path):
    assert "The same, byte for byte: result.json and" in command("replay", str(first))


def test_the_packets_are_the_same_while_every_processor_is_busy(first: Path, tmp_path: Path):
    with contextlib.ExitStack() as stack:
        for _ in os.sched_getaffinity(0):
            hog = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(hog.wait)
            stack.callback(hog.kill)
        docomo(tmp_path / "busy")
    assert compare(first, tmp_path / "busy").equal


def test_the_packets_are_the_same_in_another_folder_and_environment(first: Path, tmp_path: Path):
    docomo(tmp_path / "out", cwd=tmp_path, env={**os.environ, "SOMETHING": "else" * 1000})
    found = compare(first, tmp_path / "out")
    assert found.equal, found.text


def test_the_packets_do_not_depend_on_how_many_boots_go_on_at_a_time(tmp_path: Path):
    words = ("-p", "proxy=drop,off", "-p", "handshake=bare", "--repeat", "4")  # two boots
    for jobs in ("1", "2"):
        command(
            "run",
            "docomo",
            "--clock",
            "virtual",
            *words,
            "--jobs",
            jobs,
            "--out",
            str(tmp_path / jobs),
        )
    found = compare(tmp_path / "1", tmp_path / "2")
    assert found.equal, found.text


def test_packets_do_not_depend_on_what_python_has_compiled(tmp_path: Path):
    package = Path(testbed.__file__).parent
    shutil.copytree(package, tmp_path / "testbed", ignore=shutil.ignore_patterns("__pycache__"))
    docomo(tmp_path / "nothing", cwd=tmp_path)
    docomo(tmp_path / "all", cwd=tmp_path)
    outcome = compare(tmp_path / "nothing", tmp_path / "all")
    assert outcome.equal, outcome.text


def test_another_seed_makes_other_packets_and_the_same_verdict(first: Path, tmp_path: Path):
    told = docomo(tmp_path / "other", "--seed", "2")
    assert told["passed"]
    found = compare(first, tmp_path / "other")
    assert not found.equal
    assert "packet 1:" in found.text


def test_a_result_of_the_real_clock_cannot_be_replayed(tmp_path: Path, first: Path):
    told = json.loads((first / "result.json").read_text())
    told["asked"]["clock"] = "real"
    (tmp_path / "result.json").write_text(json.dumps(told))
    assert "made by the real clock" in command("replay", str(tmp_path), status=1)


def test_a_script_builds_labs_by_the_virtual_clock(tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "kept").mkdir()
    told = command(
        *("--clock", "virtual", "exec", "--write", "kept", "script.py", "said"), cwd=tmp_path
    )
    word, seconds = told.split()
    assert word == "said"
    assert 0 <= float(seconds) - 0.020 < 50e-6
    assert (tmp_path / "kept" / "told").read_text() == "kept"


REACHES_OUT = """
import socket, sys
from testbed import Lab, loads
from testbed.traffic import transfer

PATH = "{endpoints: [a, b], delay: 10ms, rate: 20mbit, loss: 1%}"
open("lost", "w").write("x")
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError as error:
    print(error)
topology = loads(f"{{name: x, nodes: {{a: , b: }}, links: [{PATH}], captures: [a, b]}}")
with Lab(topology, captures="kept") as lab:
    transfer(lab["a"], lab["b"], 300_000)
print(__import__("os").environ.get("SOMETHING"))
"""


def test_a_script_is_told_what_it_lost_and_has_the_same_packets_in_any_environment(tmp_path: Path):
    others = {**os.environ, "TZ": "Asia/Tokyo", "SOMETHING": "else" * 1000, "OTHER": "x"}
    told = []
    for name, environment, words in (
        ("here", dict(os.environ), ("script.py",)),
        ("a-folder-elsewhere", others, ("--env", "SOMETHING", "./script.py", "some", "words")),
    ):
        folder = tmp_path / name
        (folder / "kept").mkdir(parents=True)
        (folder / "script.py").write_text(REACHES_OUT)
        line = ("exec", "--clock=virtual", "--write=kept", *words)
        told.append(command(*line, cwd=folder, env=environment))
        assert f"What was written to {folder}/lost has vanished" in told[-1]
        assert "asked for an address outside of its labs" in told[-1]
    assert "None" in told[0] and others["SOMETHING"] in told[1]
    files = sorted(tmp_path.glob("*/kept/*.pcap"), key=lambda file: file.name)
    assert len(files) == 4
    one, other, third, fourth = (file.read_bytes() for file in files)
    assert one == other != third == fourth


def test_the_environment_chooses_the_clock_and_an_option_overrules_it(tmp_path: Path):
    (tmp_path / "script.py").write_text(
        "from testbed.kernel.clock import clock_name\nprint(clock_name())"
    )
    virtual = {**os.environ, "TESTBED_CLOCK": "virtual"}
    assert command("exec", "script.py", cwd=tmp_path, env=virtual) == "virtual\n"
    told = command("exec", "--clock", "real", "script.py", cwd=tmp_path, env=virtual)
    assert told == "real\n"


def test_pytest_runs_by_the_virtual_clock_and_keeps_what_tests_write(tmp_path: Path):
    (tmp_path / "test_patient.py").write_text(
        "import time\n"
        "def test_two_hours(request):\n"
        "    time.sleep(7200)\n"
        "    (request.config.rootpath / 'told').write_text('kept')\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 60\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--testbed-clock=virtual", "-n", "2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "1 passed in 7200." in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "told").read_text() == "kept"


def test_the_kernel_of_this_machine_has_no_virtual_clock():
    told = command("run", "docomo", "--clock", "virtual", "--kernel", "host", status=1)
    assert "this machine's own kernel is real" in told
