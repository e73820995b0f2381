"""Commands inside User-Mode Linux. Every start takes seconds, so each test asks several things."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.errors import MissingProgram
from testbed.kernel.uml import boot as uml

pytestmark = pytest.mark.skipif(
    shutil.which("linux.uml") is None or uml.inside(),
    reason="needs the package user-mode-linux, and a kernel around it",
)


def command(*words: str, writable: Path | None = None) -> list[str]:
    folder = [] if writable is None else ["-w", str(writable)]
    return [sys.executable, "-m", "testbed.kernel.uml", *folder, "--", *words]


def run(*words: str, writable: Path | None = None, **settings) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words, writable=writable),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **settings,
    )


def leftovers(folder: Path) -> list[str]:
    """What is there of kernels that were started with this folder for temporary files."""
    found = [str(path) for path in folder.glob("testbed-uml-*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"linux.uml" in words and bytes(folder) in words:
            found.append(str(process))
    return found


def start_sleeping(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command("bash", "-c", "echo up; sleep 1000"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    assert process.stdout.readline() == "up\n"
    assert leftovers(folder) != []
    return process


def await_nothing_left(folder: Path) -> None:
    limit = time.monotonic() + 60
    while left := leftovers(folder):
        assert time.monotonic() < limit, left
        time.sleep(0.05)


def test_a_command_finds_its_folder_and_environment_and_gives_its_status(tmp_path):
    script = """
        echo kernel=$(uname -r) user=$(id -u) here=$(pwd) word="$WORD" inside=$TESTBED_KERNEL
        echo trouble >&2
        echo kept > results/file; echo forgotten > other/file; cat other/file
        tc qdisc add dev lo root netem delay 5ms && echo netem
        head -c 300000 /dev/zero | tr '\\0' x
        exit 7
    """
    for name in ("results", "other"):
        (tmp_path / name).mkdir()
    done = run(
        "bash",
        "-c",
        script,
        writable=tmp_path / "results",
        cwd=tmp_path,
        env={**os.environ, "WORD": "two words"},
    )
    first, forgotten, netem, rest = done.stdout.split("\n", 3)
    assert done.returncode == 7
    assert f"user=0 here={tmp_path} word=two words inside=uml" in first
    assert f"kernel={os.uname().release} " not in first
    assert (forgotten, netem, rest) == ("forgotten", "netem", "x" * 300_000)
    assert done.stderr == "trouble\n"
    assert (tmp_path / "results" / "file").read_text() == "kept\n"
    assert not (tmp_path / "other" / "file").exists()


@pytest.mark.parametrize(
    ("words", "status"),
    [(["no-such-program"], 127), (["bash", "-c", "kill -KILL $$"], 137)],
    ids=["missing", "killed"],
)
def test_a_command_that_does_not_end_by_itself(words, status):
    assert run(*words).returncode == status


def test_output_comes_as_it_is_written_and_an_interrupt_leaves_nothing_behind(tmp_path):
    with start_sleeping(tmp_path) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
    assert leftovers(tmp_path) == []


def test_the_kernel_does_not_outlive_its_killed_parent(tmp_path):
    with start_sleeping(tmp_path) as process:
        process.kill()
    await_nothing_left(tmp_path)


def test_a_missing_package_is_told_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingProgram, match="apt-get install user-mode-linux"):
        uml.run_in_uml(["true"])
