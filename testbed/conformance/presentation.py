"""Findings as text: what failed with the segments that show it, the rest as counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from testbed.conformance.finding import Answer, Finding
from testbed.report import draw, ladder_from_traces
from testbed.report.wording import count
from testbed.trace import Endpoint, Trace

_STYLE = {Answer.FAIL: "bold red", Answer.PASS: "green", Answer.INCONCLUSIVE: "dim"}
_MOST_ARROWS = 12
_INDENT = 4
_LADDER_WIDTH = 96


class FindingsTable:
    """The findings of one trace: print it with rich.

    everything: with all that passed or could not be told, and why.
    """

    def __init__(
        self,
        trace: Trace,
        findings: Sequence[Finding],
        *,
        everything: bool = False,
        ascii_only: bool = False,
    ) -> None:
        self.trace = trace
        self.findings = tuple(findings)
        self.everything = everything
        self.ascii_only = ascii_only

    @property
    def failed(self) -> bool:
        return any(one.answer is Answer.FAIL for one in self.findings)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        quiet: Counter[Answer] = Counter()
        silent = 0
        for number, group in groupby(self.findings, key=lambda one: one.connection):
            found = list(group)
            if self.everything or any(one.answer is Answer.FAIL for one in found):
                yield from self._connection(number, found)
            else:
                silent += 1
                quiet.update(one.answer for one in found)
        if silent:
            yield Text(f"{self.trace.path.name}: {count(silent, 'connection')} without a failure")
            yield Text(f"    {_counts(quiet)}; --all tells why", style="dim")

    def _connection(
        self, number: int, found: Sequence[Finding]
    ) -> Iterator[Text | Table | Padding]:
        connection = self.trace.numbered(number)
        ends = f"{self._name(connection.initiator)} to {self._name(connection.responder)}"
        yield Text(f"{self.trace.path.name}: connection {number}, {ends}", style="bold")
        for endpoint, group in groupby(found, key=lambda one: one.endpoint):
            answers = list(group)
            counts = Counter(one.answer for one in answers)
            yield Text(f"  {self._name(endpoint)}: {_counts(counts)}")
            for one in answers:
                if one.answer is Answer.FAIL:
                    yield _line(one)
                    yield Padding(self._evidence(one), (0, 0, 1, _INDENT + 2))
            if self.everything:
                for one in answers:
                    if one.answer is not Answer.FAIL:
                        yield _line(one)

    def _name(self, endpoint: Endpoint) -> str:
        """Address and port; of a text log as they are there."""
        transcript = self.trace.capture.transcript
        name = transcript.names.get(endpoint.address) if transcript else None
        if name is None:
            return str(endpoint)
        return f"{name}:{endpoint.port}" if endpoint.port else name

    def _evidence(self, finding: Finding) -> Text:
        """A ladder of the segments and of those right before and after."""
        connection = self.trace.numbered(finding.connection)
        numbers = [one.number for one in connection.segments]
        shown: set[int] = set()
        for number in finding.segments[: _MOST_ARROWS // 2] + finding.segments[-2:]:
            at = numbers.index(number)
            shown.update(numbers[max(0, at - 1) : at + 2])
        frames = sorted(shown)[:_MOST_ARROWS]
        names = [self._name(connection.initiator), self._name(connection.responder)]
        ladder = ladder_from_traces(
            [self.trace],
            names=names if len(set(names)) == 2 else None,
            connection=finding.connection,
            frames=frames,
            silence_ms=math.inf,
        )
        drawing = draw(ladder, _LADDER_WIDTH, ascii_only=self.ascii_only)
        lines = [line.copy() for line in drawing.lines if not line.plain.startswith("(")][1:]
        for line in lines:
            line.rstrip()
        return Text("\n").join(lines)


def _line(finding: Finding) -> Table:
    """One answer: which, about what, and the sentence."""
    line = Table.grid(padding=(0, 2))
    line.add_column(no_wrap=True)
    line.add_column()
    answer = Text(f"{'':{_INDENT}}{finding.answer.value}", style=_STYLE[finding.answer])
    about = Text(f"{finding.problem} (RFC 2525, {finding.section}): ", style="bold")
    line.add_row(answer, about + Text(finding.sentence))
    return line


def _counts(counts: Counter[Answer]) -> str:
    """`1 failed, 9 passed, 8 inconclusive`."""
    words = {Answer.FAIL: "failed", Answer.PASS: "passed", Answer.INCONCLUSIVE: "inconclusive"}
    return ", ".join(f"{counts[answer]} {word}" for answer, word in words.items() if counts[answer])
