"""The whole examples of docs/cookbook.md run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.topology.yaml.load import loads

PAGE = Path(__file__).parents[3] / "docs" / "cookbook.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
PROGRAMS = [
    code
    for language, code in BLOCKS
    if language == "python" and "print(" in code and "import Lab" in code
]
TOPOLOGIES = [code for language, code in BLOCKS if language == "yaml" and code[:5] == "name:"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("code", PROGRAMS)
def test_programs_print_what_they_found(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("code", TOPOLOGIES)
def test_topologies_are_valid(code):
    assert loads(code).nodes


def test_there_are_examples():
    assert len(PROGRAMS) == 2 and len(TOPOLOGIES) == 2
