"""The time that a frame is under way, and frames that overtake others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from testbed.topology.impairments.declaration import (
    CORRELATION,
    MAX_DELAY,
    Impairment,
    probability,
    seconds,
    share_problems,
)
from testbed.topology.model import Impairments, Jitter, Reorder
from testbed.topology.problems import Path, Problem
from testbed.topology.units import format_duration
from testbed.topology.values import scalars
from testbed.topology.values.scalars import DURATION, NUMBER, PROBABILITY, SWITCH
from testbed.topology.values.shapes import Either, Key, Record


def _duration_problems(path: Path, value: float) -> Iterator[Problem]:
    if not 0 <= value <= MAX_DELAY:
        yield Problem(path, f"expected 0 to {format_duration(MAX_DELAY)}, got {seconds(value)}")


def _delay_problems(path: Path, given: Impairments) -> Iterator[Problem]:
    yield from _duration_problems(path, given.delay)


def _jitter_problems(path: Path, given: Impairments) -> Iterator[Problem]:
    if given.jitter is not None:
        yield from _duration_problems((*path, "spread"), given.jitter.spread)
        yield from share_problems(path, given.jitter, "spread")


def _reorder_problems(path: Path, given: Impairments) -> Iterator[Problem]:
    yield from share_problems(path, given.reorder, "gap")
    if given.reorder is not None and given.reorder.gap < 1:
        yield Problem((*path, "gap"), f"expected 1 or more, got {given.reorder.gap!r}")


def _jitter(spread: float) -> Jitter | None:
    return Jitter(spread=spread) if spread else None


_JITTER: Final = Record(
    "jitter",
    "Variation of the delay.",
    (
        Key(
            "spread",
            DURATION,
            "Standard deviation, or, when uniform, the furthest.",
            required=True,
        ),
        Key("distribution", scalars.DISTRIBUTION, "Of the variation.", default="`normal`"),
        CORRELATION,
        Key(
            "reorder",
            SWITCH,
            "Let packets overtake each other; otherwise one that would arrives with the other.",
            default="`false`",
        ),
    ),
    build=Jitter,
)
_REORDER: Final = Record(
    "reorder",
    "Packets that skip the delay and so overtake those under way (tc-netem(8)).",
    (
        probability("Of each candidate."),
        CORRELATION,
        Key("gap", NUMBER, "Only every so many-th packet is a candidate.", default="`1`"),
    ),
    build=Reorder,
)
DELAY: Final = Impairment(
    key=Key("delay", DURATION, "One-way propagation delay, after the queue.", default="`0`"),
    fields={"delay": (float,)},
    problems=_delay_problems,
    number=float,
)
JITTER: Final = Impairment(
    key=Key(
        "jitter",
        Either(DURATION, _JITTER, _jitter),
        "Variation of the delay; a duration alone is its spread.",
        default="`0`",
    ),
    fields={"jitter": (Jitter,)},
    problems=_jitter_problems,
    number=_jitter,
)
REORDER: Final = Impairment(
    key=Key(
        "reorder",
        Either(PROBABILITY, _REORDER, lambda p: Reorder(probability=p) if p else None),
        "Probability that a packet skips the delay and overtakes those under way.",
        default="`0`",
    ),
    fields={"reorder": (Reorder,)},
    problems=_reorder_problems,
)
