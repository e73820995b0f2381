"""Rate traces in mahimahi's format: one line for each moment at which a packet may pass."""

from __future__ import annotations

from testbed.errors import InvalidValue
from testbed.topology.model import RateTrace

#: An hour at 100 Mbit/s has 30 million lines; a trace of this many takes a second to read.
MOST_LINES = 2_000_000
_LATEST = 1 << 40


def parse_rate_trace(text: str, name: str) -> RateTrace:
    """A trace from the text of its file; `name` is that of the file, for messages.

    Each line holds a whole number of milliseconds from the start, never less than the line
    before. Empty lines and lines that begin with # are passed over. Raises `InvalidValue` with
    the number of the line.
    """
    lines = text.splitlines()
    if len(lines) > MOST_LINES:
        raise InvalidValue(f"{name} has {len(lines)} lines; {MOST_LINES} is the most")
    moments: list[int] = []
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        moments.append(_moment(stripped, moments[-1] if moments else 0, f"{name}:{number}"))
    if not moments or moments[-1] == 0:
        raise InvalidValue(f"{name} has no line later than 0 ms, so it lets nothing pass")
    return RateTrace(tuple(moments))


def _moment(text: str, earliest: int, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or int(text) > _LATEST:
        shown = text if len(text) <= 40 else text[:40] + "..."
        raise InvalidValue(f"{where}: expected a whole number of milliseconds, got {shown!r}")
    if int(text) < earliest:
        raise InvalidValue(f"{where}: {text} ms is earlier than the line before, {earliest} ms")
    return int(text)
