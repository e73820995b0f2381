"""A path of 10 Gbit/s and 100 ms by the virtual clock, which no machine need keep up with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.kernel.uml import boot as uml
from testbed.kernel.uml.store import built_kernels

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        uml.inside() or not any(kernel.current for kernel in built_kernels()),
        reason="needs a kernel of `testbed kernel build`, and a kernel around it",
    ),
]

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "virtual_time.py"
#: What Ethernet, IPv4 and TCP with timestamps leave of 10 Gbit/s in frames of 1,514 bytes.
MOST = 10_000 * 1448 / 1514


def test_ten_gigabits_over_a_hundred_milliseconds_are_filled(tmp_path: Path):
    told = tmp_path / "told.json"
    subprocess.run([sys.executable, str(BENCHMARK), "--fast", "--json", str(told)], check=True)
    found = json.loads(told.read_text())["found"]
    assert found.keys() == {"bbr", "cubic"}
    for control, figures in found.items():
        assert figures["seconds"] == pytest.approx(10, abs=1e-3)
        assert 0.95 * MOST < figures["mbps"] <= 1.001 * MOST, (control, figures)
