"""What the checks say of the traces in RFC 2525, as a table for docs/conformance.md.

python benchmarks/rfc2525_table.py

The traces are in tests/data/rfc2525; what the RFC tells in its prose (the endpoint in question,
where the trace was captured, that settings are the default ones and applications close when they
have written all) is given to the checks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from testbed.conformance import Answer, Circumstances, Finding, all_checks, check_trace
from testbed.trace import read_trace
from testbed.trace.analysis import VantagePoint

TRACES = Path(__file__).parents[1] / "tests" / "data" / "rfc2525"
HEADER = re.compile(
    r"# RFC 2525, section (?P<section>[\d.]+) \((?P<problem>[\w-]+)\): trace demonstrating "
    r"(?P<kind>.*)\.\n# Endpoint in question: (?P<who>\w+)\n(?:# Captured at: (?P<at>\w+)\n)?"
)


@dataclass(frozen=True)
class Judged:
    """One trace: what it shows by the RFC, and what the checks say.

    own: of its problem and the endpoint in question. failed: (endpoint, problem), all of them.
    skipped: lines of it that were not understood.
    """

    section: str
    problem: str
    kind: str
    own: Finding
    who: str
    failed: frozenset[tuple[str, str]]
    skipped: int


def judged(path: Path) -> Judged:
    """The answers of all checks under the profile of the RFC's own time."""
    header = HEADER.match(path.read_text())
    assert header is not None, path
    trace = read_trace(path)
    transcript = trace.capture.transcript
    assert transcript is not None
    names = transcript.names
    vantage = None
    if header["at"]:
        first = names[trace.connections[0].initiator.address] == header["at"]
        vantage = VantagePoint.INITIATOR if first else VantagePoint.RESPONDER
    known = Circumstances(vantage, default_settings=True, plain_close=True)
    found = check_trace(trace, profile="rfc2525", known=known)
    (own,) = (
        one
        for one in found
        if (one.problem, names[one.endpoint.address]) == (header["problem"], header["who"])
    )
    return Judged(
        header["section"],
        header["problem"],
        header["kind"],
        own,
        header["who"],
        frozenset(
            (names[one.endpoint.address], one.problem) for one in found if one.answer is Answer.FAIL
        ),
        transcript.skipped,
    )


def table() -> str:
    """One line a problem, in Markdown."""
    lines = [
        "| section | problem | trace of the problem | trace of correct behaviour |",
        "|---|---|---|---|",
    ]
    traces = [judged(path) for path in sorted(TRACES.glob("*.txt"))]
    for name, check in all_checks().items():
        cells = {"the problem": "", "correct behaviour": ""}
        for one in traces:
            if one.problem == name and one.kind in cells:
                cells[one.kind] += (", " if cells[one.kind] else "") + one.own.answer.value
        words = " | ".join(cell or "none" for cell in cells.values())
        lines.append(f"| {check.section} | `{name}` | {words} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
