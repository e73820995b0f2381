"""The traces that RFC 2525 itself shows: the problem is found in each, and nowhere else."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from testbed.conformance import all_checks

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "tests" / "data" / "rfc2525").glob("*.txt"))
# No data is sent at all there, because the host's own IP refuses it: that does not show.
UNDECIDED = "2.18-problem-2"
# What else is wrong in these traces, and right to be told: two by the RFC's own words (2.3 is a
# form of 2.1; B of 2.12 "erroneously skips slow start"), the rest by its figures.
ALSO_WRONG = {
    "2.03-problem": {("A", "no-initial-slow-start")},
    "2.12-problem": {("B", "no-initial-slow-start")},
    "2.12-correct": {("B", "no-initial-slow-start")},
    "2.16-problem": {("server", "no-initial-slow-start")},  # 4 segments before the first ACK
    "2.17-problem": {
        ("A", "no-initial-slow-start"),  # 2 segments
        ("A", "uninitialized-cwnd"),
        ("B", "no-rst-after-half-duplex-close"),
    },
    "2.17-better": {("C", "no-initial-slow-start")},  # 2 segments
}


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """benchmarks/rfc2525_table.py"""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("rfc2525_table")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_trace_of_the_rfc_is_judged_as_the_rfc_judges_it(script: ModuleType, path: Path) -> None:
    one = script.judged(path)
    assert one.skipped == 0
    expected = set(ALSO_WRONG.get(path.stem, set()))
    if one.kind == "the problem" and path.stem != UNDECIDED:
        expected.add((one.who, one.problem))
    assert one.failed == expected


def test_every_problem_has_its_check_and_its_trace(script: ModuleType) -> None:
    traced = {one.problem: one.section for one in map(script.judged, FILES)}
    assert {name: one.section for name, one in all_checks().items()} == traced
    assert len(traced) == 18


def test_the_table_in_the_docs_is_what_the_checks_say(script: ModuleType) -> None:
    assert script.table() in (ROOT / "docs" / "conformance.md").read_text()


@pytest.mark.parametrize("problem", all_checks())
def test_a_check_says_where_the_problem_comes_from(problem: str) -> None:
    doc = sys.modules[all_checks()[problem].ask.__module__].__doc__ or ""
    assert f"RFC 2525 section {all_checks()[problem].section})" in doc
    assert len(set(re.findall(r"RFC \d+", doc))) >= 2
