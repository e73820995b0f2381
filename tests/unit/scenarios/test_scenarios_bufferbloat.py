"""What the bufferbloat scenario says of its measurements."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from testbed.loading import load
from testbed.scenarios.catalogue.bufferbloat import present
from testbed.scenarios.result import Cell


def test_the_sentence_tells_the_goodputs_that_were_measured():
    measured = {"drop-tail": (3000, 1.9), "red": (210, 0.2), "codel": (180, 1.7)}
    cells = [
        Cell(
            parameters={"queue": queue},
            runs=1,
            medians={"rtt_ms": round_trip, "goodput_mbit": goodput},
            verdict="",
            expected="",
        )
        for queue, (round_trip, goodput) in measured.items()
    ]
    result: Any = SimpleNamespace(cells=cells)
    shown = present(result, load("bufferbloat"), Path())
    (sentence,) = shown.blocks(80)
    assert "3.0 s" in str(sentence) and "red brings it down to 210 ms" in str(sentence)
    assert "1.9 Mbit/s, with red 0.2, with codel 1.7" in str(sentence)
