"""What a check says of one endpoint of one connection."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from testbed.trace import Endpoint, Segment


class Answer(StrEnum):
    """The three answers of a check."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Ruling(msgspec.Struct, frozen=True, eq=False):
    """The answer of a check, why, and the segments that show it."""

    answer: Answer
    sentence: str
    segments: tuple[Segment, ...] = ()


class Finding(msgspec.Struct, frozen=True):
    """The answer of one check about one endpoint of one connection.

    connection: its number in the trace.
    section: of RFC 2525.
    segments: numbers of the frames that show it.
    """

    problem: str
    section: str
    connection: int
    endpoint: Endpoint
    answer: Answer
    sentence: str
    segments: tuple[int, ...] = ()


def passes(sentence: str, segments: Iterable[Segment] = ()) -> Ruling:
    """What the problem would show in is there, and the endpoint does not have it."""
    return Ruling(Answer.PASS, sentence, tuple(segments))


def fails(sentence: str, segments: Iterable[Segment]) -> Ruling:
    """The endpoint has the problem, and nothing else explains these segments."""
    return Ruling(Answer.FAIL, sentence, tuple(segments))


def undecided(sentence: str, segments: Iterable[Segment] = ()) -> Ruling:
    """The trace cannot tell, and why."""
    return Ruling(Answer.INCONCLUSIVE, sentence, tuple(segments))
