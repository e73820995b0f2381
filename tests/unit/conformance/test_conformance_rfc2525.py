"""The traces that RFC 2525 itself shows: the problem is found in each, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testbed.conformance import Answer, check_trace, checks
from testbed.trace import read_trace

TRACES = Path(__file__).parents[2] / "data" / "rfc2525"
HEADER = re.compile(
    r"# RFC 2525, section (?P<section>[\d.]+) \((?P<problem>[\w-]+)\): trace demonstrating "
    r"(?P<kind>.*)\.\n# Endpoint in question: (?P<who>\w+)\n"
)
FILES = sorted(TRACES.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_trace_of_the_rfc_is_judged_as_the_rfc_judges_it(path: Path) -> None:
    header = HEADER.match(path.read_text())
    assert header is not None
    trace = read_trace(path)
    assert trace.capture.transcript is not None
    assert trace.capture.transcript.skipped == 0
    names = trace.capture.transcript.names
    failed = {
        (one.problem, names[one.endpoint.address])
        for one in check_trace(trace, profile="rfc2525")
        if one.answer is Answer.FAIL
    }
    own = header["problem"], header["who"]
    if header["problem"] not in checks():
        pytest.skip("no check yet")
    assert (own in failed) == (header["kind"] == "the problem")
