"""`testbed --kernel uml ...`, as root and as somebody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from testbed.kernel.uml import boot as uml

NOBODY = 65534

pytestmark = pytest.mark.skipif(
    shutil.which("linux.uml") is None or uml.inside(),
    reason="needs the package user-mode-linux, and a kernel around it",
)


def testbed(*words: str, **settings) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "testbed", *words],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        **settings,
    )


testbed.__test__ = False  # type: ignore[attr-defined]


def test_what_a_command_writes_arrives_and_nothing_else_is_left(tmp_path):
    done = testbed("--kernel", "uml", "schema", "--out", "schema.json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "schema.json").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["schema.json"]


def test_a_refusal_comes_out_as_it_does_here(tmp_path):
    here = testbed("run", "no-such-scenario", cwd=tmp_path)
    there = testbed("--kernel=uml", "run", "no-such-scenario", cwd=tmp_path)
    assert here.returncode == 1
    assert (there.returncode, there.stderr) == (here.returncode, here.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_an_ordinary_user_gets_every_discipline_and_congestion_control():
    identity = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/tmp"}
    environment = {**os.environ, "HOME": "/tmp", "TMPDIR": "/tmp"}
    try:
        reachable = testbed("--version", **identity, env=environment).returncode == 0
    except PermissionError:
        reachable = False
    if not reachable:
        pytest.skip(f"an ordinary user cannot reach {sys.executable}")
    done = testbed("--kernel", "uml", "doctor", "--json", **identity, env=environment)
    assert done.returncode == 0, done.stderr
    found = {one["what"]: one["found"] for one in json.loads(done.stdout)["findings"]}
    assert found["netem"] == "available"
    assert {"cake", "pie", "fq_codel"} <= set(found["queueing disciplines"].split(", "))
    assert {"vegas", "westwood", "bbr"} <= set(found["congestion controls"].split(", "))
