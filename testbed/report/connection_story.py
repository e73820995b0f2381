"""All that is told about one connection: as lines of text, and as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import msgspec

from testbed.report.connection_plots import connection_curves, timeouts_data
from testbed.report.story import connection_story
from testbed.report.tables import connection_row
from testbed.report.wording import clock, count
from testbed.trace import Connection, SegmentMark, Trace, compare


def story_lines(traces: Sequence[Trace], trace: Trace, connection: Connection) -> Iterator[str]:
    """The story in words, and what became of the segments in the next capture, if there is one."""
    yield from connection_story(trace, connection).sentences
    for other in traces:
        if other is not trace:
            yield from _between(trace, connection, other)


def _between(trace: Trace, connection: Connection, other: Trace) -> Iterator[str]:
    compared = compare(trace, connection, other)
    name = other.path.name
    if compared is None:
        yield f"{name} has nothing of this connection."
        return
    for outward, way in ((True, "of the initiator"), (False, "of the responder")):
        transits = [one.transit / 1e6 for one in compared.crossings(outward)]
        lost = compared.lost(outward)
        rewritten = Counter(what for one in compared.rewritten(outward) for what in one.changes)
        if not transits:
            yield f"No segment {way} is in both {trace.path.name} and {name}."
            continue
        told = (
            f"{count(len(transits), 'segment')} {way} in both {trace.path.name} and {name}: "
            f"{clock(min(transits))} to {clock(max(transits))} apart, half of them within "
            f"{clock(median(transits))}; {count(len(lost), 'segment')} lost between them"
        )
        if rewritten:
            told += "; changed on the way: " + ", ".join(
                f"{what} of {number:,}" for what, number in rewritten.most_common()
            )
        yield f"{told}."


def _marks(bits: int) -> list[str]:
    return [str(one.name).lower() for one in SegmentMark if bits & one]


def story_data(traces: Sequence[Trace], trace: Trace, connection: Connection) -> dict[str, Any]:
    """The same as plain data, with every metric over time, ready for JSON."""
    analysis = connection.analysis
    story = connection_story(trace, connection)
    return {
        "file": str(trace.path),
        "connection": msgspec.to_builtins(connection_row(trace, connection)),
        "vantage": analysis.vantage.value,
        "sentences": list(story_lines(traces, trace, connection)),
        "classes": {
            side: {kind.name.lower(): number for kind, number in analysis.counts(index).items()}
            for index, side in enumerate(("initiator", "responder"))
        },
        "episodes": [msgspec.to_builtins(one) for one in story.episodes],
        "segments": [
            {
                "number": int(analysis.table.number[row]),
                "class": analysis.kind(row).name.lower(),
                "marks": _marks(int(analysis.marks[row])),
            }
            for row in range(len(analysis.table))
        ],
        "sent_again": [
            {
                "number": int(analysis.table.number[one.row]),
                "first": int(analysis.table.number[one.first]),
                "reason": one.reason.name.lower(),
                "needless": one.needless.name.lower(),
                "timer": one.timer,
            }
            for one in analysis.repeats
        ],
        "curves": {
            side: [msgspec.to_builtins(one) for one in connection_curves(connection, index)]
            for index, side in enumerate(("initiator", "responder"))
        },
        "timeouts": {
            side: timeouts_data(connection, index)
            for index, side in enumerate(("initiator", "responder"))
        },
    }  # fmt: skip
