"""The suite of examples/pytest, as a stranger runs it; and its workflows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from testbed.kernel.processes.userns import needed
from testbed.kernel.uml import boot
from testbed.kernel.uml.store import built_kernels

EXAMPLE = Path(__file__).parents[3] / "examples" / "pytest"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    copy = tmp_path / "suite"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def run(suite: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # Warnings of other plugins that happen to be installed are not the suite's.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    plugins = [word for name in ("testbed", "anyio", "timeout") for word in ("-p", name)]
    argv = [sys.executable, "-m", "pytest", *plugins, "--testbed-require", *options]
    return subprocess.run(
        argv, cwd=suite, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.timeout(300)
@pytest.mark.skipif(needed(), reason="workers of pytest-xdist need privileges")
def test_the_example_passes_in_parallel_and_leaves_nothing(suite: Path) -> None:
    done = run(suite, "-p", "xdist", "-n", "2")
    assert "2 workers [9 items]" in done.stdout, done.stdout + done.stderr
    assert "9 passed" in done.stdout, done.stdout + done.stderr
    assert not (suite / "results").exists()


@pytest.mark.timeout(300)
@pytest.mark.skipif(
    boot.inside() or not any(one.current for one in built_kernels()),
    reason="needs a kernel of `testbed kernel build`",
)
def test_a_fault_of_the_program_is_found_by_the_virtual_clock_and_shown(suite: Path) -> None:
    program = suite / "fetcher.py"
    text = program.read_text()
    fault = "                self.close()\n"
    assert text.count(fault) == 1
    program.write_text(text.replace(fault, ""))
    done = run(suite, "--testbed-clock=virtual", "test_middleboxes.py", "test_bad_paths.py")
    assert "1 failed, 5 passed" in done.stdout, done.stdout + done.stderr
    assert "FAILED test_middleboxes.py::test_a_forgotten_connection" in done.stdout
    assert "testbed middleboxes" in done.stdout and "testbed captures" in done.stdout
    (folder,) = (suite / "results" / "pytest").iterdir()
    assert {file.name for file in folder.iterdir()} == {"client-eth0.pcap", "server-eth0.pcap"}


@pytest.mark.parametrize("name", ["github.yml", "gitlab-ci.yml"])
def test_workflows_can_be_read_and_keep_the_results(name: str) -> None:
    text = (EXAMPLE / "ci" / name).read_text()
    workflow = yaml.safe_load(text)
    if name == "github.yml":
        steps = workflow["jobs"]["pytest"]["steps"]
        commands = [step["run"] for step in steps if "run" in step]
        kept = steps[-1]["with"]["path"]
        assert steps[-1]["if"] == "failure()"
    else:
        job = workflow["network-tests"]
        commands, (kept,) = job["before_script"] + job["script"], job["artifacts"]["paths"]
    assert "-n 2 --testbed-require" in commands[-1] and f"--junit-xml={kept}" in commands[-1]
    assert any("tcpdump" in command for command in commands)
    assert any("-r requirements.txt" in command for command in commands)
