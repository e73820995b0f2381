"""The programs of docs/python-topologies.md run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "python-topologies.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(SENSOR,) = (code for code in BLOCKS if code.startswith("# sensor.py\n"))
REFUSED = """
from testbed import TestbedError
for node in ("kind: sensor", "kind: sensor, receive_buffer: 1KiB", "receive_buffer: 8KiB"):
    try:
        loads(f"name: t\\nnodes:\\n  a: {{{node}}}")
    except TestbedError as error:
        print(error)
"""


def run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("code", BLOCKS)
def test_a_program_finds_what_it_asserts(code):
    assert all(f"`{line}`" in PAGE for line in run(code))


def test_the_kind_of_the_page_refuses_what_it_cannot_be():
    code = SENSOR.split("if __name__")[0] + REFUSED
    assert run(code) == [
        "<string>:3: nodes.a: a sensor needs a size of 4096B or more",
        "<string>:3: nodes.a.receive_buffer: a sensor needs a size of 4096B or more",
        "<string>:3: nodes.a.receive_buffer: only a sensor has receive_buffer, and a is a host",
    ]
