"""The classes of segments compared with what the emulator logged of every packet."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "trace_classes.py"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="needs root and /dev/net/tun",
)


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("trace_classes", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_sent_again_is_told_from_what_the_path_does(benchmark: Any) -> None:
    mixed = benchmark.measure("all three", others=False)
    for where in ("sender", "receiver"):
        for kind, found in mixed[where].items():
            told = found["testbed"]
            assert told["precision"] == told["recall"] == 1, (where, kind)
            assert told["found"] == found["truth"]
    assert mixed["sender"]["retransmission"]["truth"] == mixed["sent again"] > 2
    assert mixed["receiver"]["reordered"]["truth"] > 5
    assert mixed["receiver"]["duplicate"]["truth"] > 0
    assert mixed["needless"]["testbed"]["precision"] == 1
