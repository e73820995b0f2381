"""The order of events of which the clocks say the same time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from testbed.trace import Journey, Segment

_MOST_COMPARED = 400


class Event(NamedTuple):
    """A segment seen somewhere.

    time: ns since the epoch. vantage: which capture saw it, counted along the path.
    """

    time: int
    vantage: int
    journey: Journey
    segment: Segment


def in_order(events: Sequence[Event]) -> list[int]:
    """The indices of events by time; at one time as captured, and causes before effects."""
    order = sorted(
        range(len(events)),
        key=lambda index: (
            events[index].time,
            events[index].vantage,
            events[index].segment.number,
        ),
    )
    sorted_: list[int] = []
    for _, run in groupby(order, key=lambda index: events[index].time):
        tied = list(run)
        if len(tied) > 1 and len({_recorder(events[index]) for index in tied}) > 1:
            tied = _causes_first(events, tied)
        sorted_ += tied
    return sorted_


def _recorder(event: Event) -> tuple[int, int]:
    """What put events into their order in the file: one interface of one capture."""
    return event.vantage, event.segment.interface


def _causes_first(events: Sequence[Event], tied: list[int]) -> list[int]:
    if len(tied) > _MOST_COMPARED:
        return tied
    left, placed = list(tied), []
    while left:
        free = (
            one
            for one in left
            if not any(_causes(events[other], events[one]) for other in left if other != one)
        )
        chosen = next(free, left[0])
        left.remove(chosen)
        placed.append(chosen)
    return placed


def _causes(cause: Event, effect: Event) -> bool:
    """Whether one event must have come before the other."""
    if _recorder(cause) == _recorder(effect):
        return cause.segment.number < effect.segment.number
    if cause.journey is effect.journey:
        rightward = cause.journey.rightward
        return cause.vantage < effect.vantage if rightward else cause.vantage > effect.vantage
    if cause.journey.rightward == effect.journey.rightward or effect.journey.ack is None:
        return False
    return cause.segment.span > 0 and effect.journey.ack >= cause.journey.seq + cause.segment.span
