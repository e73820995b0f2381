"""No check fails a clean transfer of Linux: a few of those of benchmarks/false_alarms.py."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from testbed.conformance import Answer
from testbed.kernel.clock import clock_name

pytestmark = pytest.mark.skipif(
    clock_name() != "virtual", reason="is run by the virtual clock: make test-virtual"
)

REORDER = ", reorder: {probability: 1%, gap: 5}"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """benchmarks/false_alarms.py"""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
        yield importlib.import_module("false_alarms")


@pytest.mark.parametrize("sack", [True, False])
@pytest.mark.parametrize(
    "cell",
    [
        ("cubic", "20ms", "2%", REORDER),
        ("bbr", "150ms", "2%", ""),
        ("reno", "1ms", "0%", REORDER),
    ],
    ids=lambda cell: cell[0],
)
def test_a_clean_transfer_fails_no_check(
    script: ModuleType, tmp_path: Path, cell: tuple[str, str, str, str], sack: bool
) -> None:
    found = script.judged(cell, 300_000, tmp_path, sack=sack)
    assert [one for one in found if one.answer is Answer.FAIL] == []
    passed = {one.problem for one in found if one.answer is Answer.PASS}
    assert {"no-initial-slow-start", "stretch-ack", "mss-without-options"} <= passed
    assert len(found) == 2 * 2 * 18  # both ends, both endpoints


def test_a_window_that_is_too_large_at_first_is_found_in_linux_too(
    script: ModuleType, tmp_path: Path
) -> None:
    found = script.judged(("hybla", "150ms", "0%", ""), 300_000, tmp_path, sack=True)
    failed = [one for one in found if one.answer is Answer.FAIL]
    assert [one.problem for one in failed] == ["no-initial-slow-start"]
    assert "17,376 bytes in 12 segments" in failed[0].sentence
