"""Whether the impairments of a link, and the changes of its schedule, make sense."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from testbed.topology.impairments.declared import DECLARED
from testbed.topology.model import Impairments, Link, ScheduledChange
from testbed.topology.problems import Path, Problem
from testbed.wording import join, quote


def impairment_problems(path: Path, link: Link) -> Iterator[Problem]:
    """Faults of both directions and of the schedule."""
    round_trip = link.forward.delay + link.reverse.delay
    for direction in ("forward", "reverse"):
        yield from _problems((*path, direction), getattr(link, direction), round_trip)
    yield from _schedule_problems((*path, "schedule"), link)


def _problems(path: Path, given: Impairments, round_trip: float) -> Iterator[Problem]:
    """Faults of one direction; a field's path has the key that it has in YAML."""
    yield from impossible(path, given)
    yield from _pointless((*path, "queue"), given, round_trip)


def impossible(path: Path, given: Impairments) -> Iterator[Problem]:
    """What no direction of a link can do, whatever makes it and whatever else is set."""
    for declared in DECLARED:
        yield from declared.problems((*path, declared.name), given)


def _pointless(path: Path, given: Impairments, round_trip: float) -> Iterator[Problem]:
    """What about a queue would have no effect; path: of the queue."""
    limit = given.queue.limit
    where = (*path, "limit")
    has_rate = given.rate is not None or given.rate_trace is not None
    if limit.unit in ("seconds", "bdp") and not has_rate:
        shown = "of a duration" if limit.unit == "seconds" else "in bdp"
        yield Problem(where, f"a limit {shown} needs a rate; set `rate:` for the link too")
    elif limit.unit == "bdp" and round_trip == 0:
        yield Problem(where, "a limit in bdp needs a delay; set `delay:` for the link too")
    if given.queue.aqm is not None and not has_rate:
        text = "without a rate nothing ever waits in the queue; set `rate:` for the link too"
        yield Problem((*path, "aqm"), text)


def _schedule_problems(path: Path, link: Link) -> Iterator[Problem]:
    """Each change is looked at in the state in which those before it leave the link."""
    state = {"forward": link.forward, "reverse": link.reverse}
    order = sorted(range(len(link.schedule)), key=lambda index: link.schedule[index].at)
    for index in order:
        change = link.schedule[index]
        where = (*path, index)
        if not 0 <= change.at < math.inf:
            yield Problem((*where, "at"), f"expected 0 or more, got {change.at!r}")
        if change.direction not in (None, "forward", "reverse"):
            text = f"expected forward or reverse, got {quote(change.direction)}"
            yield Problem((*where, "direction"), text)
            continue
        unknown = change.changes.keys() - set(Impairments.__struct_fields__)
        if unknown:
            yield Problem(where, f"there is no impairment {join(sorted(unknown))}")
            continue
        before, state = state, _after(state, change)
        old, new = (set(_both(where, each)) for each in (before, state))
        yield from sorted(new - old)


def _after(state: dict[str, Impairments], change: ScheduledChange) -> dict[str, Impairments]:
    changes: dict[str, Any] = change.changes
    changed = {
        name: msgspec.structs.replace(given, **changes)
        for name, given in state.items()
        if change.direction in (None, name)
    }
    return {**state, **changed}


def _both(path: Path, state: dict[str, Impairments]) -> Iterator[Problem]:
    round_trip = sum(given.delay for given in state.values())
    for given in state.values():
        yield from _problems(path, given, round_trip)
