"""The tutorial's function in a lab, as the tutorial shows it."""

from __future__ import annotations

import os
import subprocess
import sys

from middlebox_path import needs_a_lab
from tutorial import install


@needs_a_lab
def test_real_hosts_repeat_what_the_tutorials_function_loses(tmp_path):
    install(tmp_path)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = subprocess.run(
        [sys.executable, tmp_path / "in_a_lab.py"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
