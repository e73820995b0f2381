"""The benchmarks still run: each of their parts for a moment, and what they write can be read.

What they measure in so short a time means nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
BRIEF = ("--repeats=1", "--seconds=0.2", "--packets=20", "--rates=10", "--links=2")

needs_labs = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="needs root and /dev/net/tun",
)


def run(name: str, *words: str | Path) -> str:
    """What a benchmark prints."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", *words],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_labs
def test_links_every_measurement_of_the_userspace_emulator(tmp_path):
    file, figure = tmp_path / "found.json", tmp_path / "found.svg"
    shown = run("emulation", *BRIEF, "--emulators=userspace", "--json", file, "--plot", figure)
    found = json.loads(file.read_text())
    figures = found["figures"]["userspace"]
    for name in (
        "path without delay, us, p50",
        "delay error at 10 ms, us, p99",
        "handed over late at 50 ms, us, p50",
        "TCP goodput at 10 Mbit/s, % of what fits",
        "queueing delay, 100 packets full, % of limit/rate, median",
        "TCP goodput, no rate, 10 ms each way, Mbit/s",
        "64-byte packets without loss, kpps",
        "CPU seconds per million packets at 40 kpps",
        "2 links at 10 Mbit/s: TCP goodput, %, worst link",
        "2 links at 10 Mbit/s: delay error p99, us, worst link",
    ):
        assert len(figures[name]) == 1
        assert name in shown
    samples = found["samples"]["userspace"]
    (errors,) = samples["delay error at 10 ms, us"]
    assert len(errors) == 20
    assert min(errors) > 0
    (links,) = samples["2 links at 10 Mbit/s"]
    assert [each["link"] for each in links] == ["a0-b0", "a1-b1"]
    assert 50 < figures["queueing delay, 100 packets full, % of limit/rate, median"][0] < 150
    assert found["idle"] == (found["load_average_before"] <= 0.5)
    assert ("NOT IDLE" in shown) != found["idle"]
    assert found["environments"]["userspace"]["kernel"] == os.uname().release
    assert "userspace, 10 ms" in figure.read_text()


@needs_labs
@pytest.mark.skipif(
    shutil.which("linux.uml") is None, reason="needs the Debian package user-mode-linux"
)
def test_links_by_netem_in_another_kernel(tmp_path):
    file = tmp_path / "found.json"
    run("emulation", *BRIEF, "--emulators=uml", "--measurements=rate", "--json", file)
    found = json.loads(file.read_text())
    (emulator,) = found["figures"]
    assert emulator == "netem in User-Mode Linux"
    assert list(found["figures"][emulator]) == ["TCP goodput at 10 Mbit/s, % of what fits"]
    assert found["environments"][emulator]["kernel"] != os.uname().release


@needs_labs
def test_links_what_is_not_there_is_left_out_and_told(tmp_path):
    nowhere = f"--mahimahi={tmp_path}"
    shown = run("emulation", *BRIEF, "--quick", "--emulators=mahimahi", nowhere)
    assert "QUICK" in shown
    assert "mahimahi was not measured: mm-delay was not found" in shown


def test_the_trace_reader():
    assert "segments/s" in run("trace_reader", "--segments=20000", "--repeats=1")


@needs_labs
def test_middleboxes():
    assert "pass-through" in run(
        "middlebox", "--repeats=1", "--seconds=0.3", "--only", "pass-through"
    )
