"""A holder that is killed leaves nothing, and no record that confuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ISOLATED = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child",
            "--mount-proc"]  # fmt: skip


@pytest.mark.parametrize(
    "rounds",
    [3, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(900)])],
)
def test_killed_holders_leave_nothing(rounds):
    search = os.pathsep.join([str(HERE), str(HERE.parent / "lab")])
    done = subprocess.run(
        [*ISOLATED, sys.executable, HERE / "holder_kills.py", str(rounds), "1"],
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("early") > 0  # some were killed while their labs were being built
    assert found == {
        "labs": [],
        "files": [],
        "processes": [],
        "namespaces": 0,
        "interfaces": [],
    }, done.stderr
