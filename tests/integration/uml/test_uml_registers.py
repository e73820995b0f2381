"""What our patches leave in processes is theirs alone: registers of floating point."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.kernel.uml import boot as uml
from testbed.kernel.uml.store import built_kernels

PROGRAM = Path(__file__).with_name("registers.c")

pytestmark = pytest.mark.skipif(
    uml.inside()
    or not any(kernel.current for kernel in built_kernels())
    or shutil.which("gcc") is None
    or platform.machine() != "x86_64",
    reason="needs a kernel of `testbed kernel build`, a kernel around it, and gcc for x86_64",
)


def test_no_call_signal_fault_or_fork_changes_a_register(tmp_path):
    program = tmp_path / "registers"
    subprocess.run(["gcc", "-O1", "-pthread", str(PROGRAM), "-o", str(program)], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "testbed.kernel.uml", "--clock", "virtual", "--", str(program)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout == "kept\n", done.stderr
