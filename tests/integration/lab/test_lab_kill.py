"""Whatever ends a lab, and whenever, nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ISOLATED = [
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("number", "rounds"),
    [(signal.SIGKILL, 100), (signal.SIGINT, 30), (signal.SIGTERM, 10)],
    ids=lambda value: getattr(value, "name", value),
)
def test_labs_ended_at_random_moments_leave_nothing(number, rounds):
    done = subprocess.run(
        [*ISOLATED, sys.executable, HERE / "kill_rounds.py", str(int(number)), str(rounds), "1"],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # Some labs were running, some still being built.
    assert 0 < found.pop("while_running") < rounds
    assert found == {
        "hung": 0,
        "dirty": 0,
        "files": [],
        "processes": [],
        "namespaces": 0,
        "interfaces": [],
    }, done.stderr


def test_labs_are_built_without_privileges_in_a_user_namespace():
    code = (
        "import sys\n"
        "from testbed.lab import Lab\n"
        "with Lab(sys.argv[1]) as lab:\n"
        "    lab['gateway'].ping('server')\n"
        "print(sorted(one.counts.dropped for one in lab.captures.values()))\n"
    )
    done = subprocess.run(
        [*ISOLATED, sys.executable, "-c", code, "topologies/docomo.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[0, 0]\n", done.stderr
