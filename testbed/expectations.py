"""What a test expects of a connection; a failure shows the ladder around what is wrong.

    trace = read_trace(path, nodes=lab.addresses)
    connection = trace.connection(client="client", server=80)
    expect(connection).opens(within=0.1).retransmits(at_most=0).ends_by("FIN")

Each method returns the expectation, so that they can be put together; each raises AssertionError.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from testbed.report.excerpt import draw_excerpt
from testbed.trace import Connection, RepeatReason, Segment, SegmentClass

T = TypeVar("T")

_AROUND = 6
_POLL_SECONDS = 0.01
_NS = 1e9


class Expectation:
    """What is expected of one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def retransmits(
        self,
        *,
        at_most: int | None = None,
        at_least: int | None = None,
        exactly: int | None = None,
        reason: RepeatReason | None = None,
        needless: bool | None = None,
    ) -> Expectation:
        """So many segments are sent again, by either side, for this reason if one is given."""
        found = self.connection.retransmissions(reason, needless=needless)
        words = "needless" if needless else "", "retransmissions", reason.words if reason else ""
        kind = " ".join(filter(None, words))
        return self._counted(found, kind, at_most, at_least, exactly)

    def sends(
        self, kind: SegmentClass, *, at_most: int | None = None, at_least: int | None = None,
        exactly: int | None = None,
    ) -> Expectation:  # fmt: skip
        """So many segments of a class, from either side."""
        rows = self.connection.analysis.rows(kind).tolist()
        segments = self.connection.segments
        found = [segments[row] for row in rows]
        return self._counted(found, kind.words, at_most, at_least, exactly)

    def opens(self, *, within: float) -> Expectation:
        """The handshake is complete, in so many seconds."""
        handshake = self.connection.handshake
        if handshake.syn is None or handshake.ack is None:
            raise self._failure("a complete handshake", "none", self.connection.segments[:1])
        took = (handshake.ack.time - self.connection.start) / _NS
        if took > within:
            wanted = f"a handshake within {within:g} s"
            raise self._failure(wanted, f"{took:.6f} s", [handshake.ack])
        return self

    def ends_by(self, end: str) -> Expectation:
        """It ends by `FIN` or `RST`, or is `half-closed` or `open`."""
        found = self.connection.ended.value
        if found != end:
            raise self._failure(f"an end by {end}", found, self.connection.segments[-1:])
        return self

    def every(self, what: str, holds: Callable[[Segment], bool]) -> Expectation:
        """Something holds for every segment; `what` says it in words."""
        wrong = [one for one in self.connection.segments if not holds(one)]
        if wrong:
            raise self._failure(f"that of every segment {what}", f"{len(wrong)} otherwise", wrong)
        return self

    def _counted(
        self, found: Sequence[Segment], kind: str, at_most: int | None, at_least: int | None,
        exactly: int | None,
    ) -> Expectation:  # fmt: skip
        number = len(found)
        for limit, words, wrong in (
            (exactly, "exactly", exactly is not None and number != exactly),
            (at_most, "at most", at_most is not None and number > at_most),
            (at_least, "at least", at_least is not None and number < at_least),
        ):
            if wrong:
                raise self._failure(f"{words} {limit} {kind}", str(number), found)
        return self

    def _failure(self, expected: str, found: str, wrong: Sequence[Segment]) -> AssertionError:
        connection = self.connection
        told = (
            f"{connection.initiator} to {connection.responder}: expected {expected}, found {found}."
        )
        if wrong:
            numbers = ", ".join(str(one.number) for one in wrong[:_AROUND])
            more = "" if len(wrong) <= _AROUND else f" and {len(wrong) - _AROUND} more"
            told += f" Packets {numbers}{more}.\n{_ladder_around(connection, wrong[0])}"
        return AssertionError(told)


def expect(connection: Connection) -> Expectation:
    """What is expected of a connection: `expect(connection).retransmits(at_most=0)`."""
    return Expectation(connection)


def eventually(read: Callable[[], T], holds: Callable[[T], bool], *, within: float) -> T:
    """The first state for which something holds, of those that are read again and again.

    Raises AssertionError with the last state after `within` seconds. For what no event tells of,
    such as counters: `eventually(box.counters, lambda one: one.dropped, within=5)`.
    """
    deadline = time.monotonic() + within
    while True:
        late = time.monotonic() >= deadline
        state = read()
        if holds(state):
            return state
        if late:
            raise AssertionError(f"Not so within {within:g} s; the last state: {state!r}")
        time.sleep(_POLL_SECONDS)


def _ladder_around(connection: Connection, segment: Segment) -> str:
    """The ladder of the segments around one."""
    row = connection.segments.index(segment)
    return draw_excerpt(connection, max(0, row - _AROUND), row + _AROUND + 1, row)
