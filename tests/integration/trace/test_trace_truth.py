"""The classes of segments compared with what the emulator logged of every packet."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "trace_classes.py"


def test_what_is_sent_again_is_told_from_what_the_path_does():
    command = [sys.executable, str(BENCHMARK), "--json", "--only", "all three", "outage"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    mixed, outage = json.loads(done.stdout)
    for where in ("sender", "receiver"):
        for kind, found in mixed[where].items():
            assert found["testbed"]["precision"] >= 0.99, (where, kind)
            assert found["testbed"]["recall"] >= 0.99, (where, kind)
    assert mixed["sender"]["retransmission"]["truth"] > 2
    assert mixed["receiver"]["reordered"]["truth"] > 5
    assert mixed["receiver"]["duplicate"]["truth"] > 0
    again = outage["sender"]["retransmission"]
    assert again["testbed"]["precision"] == again["testbed"]["recall"] == 1.0
    counted, told = outage["counters"], outage["reasons"]
    assert told["timeout"] + told.get("tail_loss_probe", 0) == pytest.approx(
        counted["TCPTimeouts"] + counted["TCPLossProbes"], abs=1
    )
