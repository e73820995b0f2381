"""Whether the impairments of a link, and the changes of its schedule, make sense."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import msgspec

from testbed.topology import names
from testbed.topology.model import (
    Codel,
    DropRule,
    FourState,
    Impairments,
    Link,
    Queue,
    RateTrace,
    Red,
    ScheduledChange,
)
from testbed.topology.problems import Path, Problem
from testbed.topology.units import RATE, format_duration
from testbed.topology.wording import join, quote

MAX_DELAY: Final = 3600.0
MAX_OVERHEAD: Final = 65536
_COUNTS: Final = ("packet", "data_segment", "retransmission", "flags")


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
    if not 0 <= given.delay <= MAX_DELAY:
        most = format_duration(MAX_DELAY)
        yield Problem((*path, "delay"), f"expected 0 to {most}, got {_seconds(given.delay)}")
    if not 0 <= given.loss <= 1:
        yield Problem((*path, "loss"), f"expected 0 to 1, got {given.loss!r}")
    if given.loss and given.loss_model is not None:
        yield Problem((*path, "loss"), "independent losses and a model of them; one of the two")
    if not 0 <= given.overhead <= MAX_OVERHEAD:
        text = f"expected 0 to {MAX_OVERHEAD} bytes, got {given.overhead!r}"
        yield Problem((*path, "overhead"), text)
    yield from _rate_problems((*path, "rate"), given)
    yield from _queue_problems((*path, "queue"), given.queue)
    for field in ("loss_model", "jitter", "duplicate", "reorder", "corrupt"):
        where = (*path, "loss" if field == "loss_model" else field)
        yield from _random_problems(where, getattr(given, field))
    for index, rule in enumerate(given.drop):
        yield from _rule_problems((*path, "drop", index), rule)


def _rate_problems(path: Path, given: Impairments) -> Iterator[Problem]:
    if given.rate is not None and not RATE.least <= given.rate <= RATE.most:
        yield Problem(path, f"expected 1 to 1e14 bit/s, got {given.rate!r}")
    if given.rate is not None and given.rate_trace is not None:
        yield Problem(path, "a constant rate and a trace; one of the two")
    if given.rate_trace is not None and not _is_trace(given.rate_trace):
        yield Problem(path, "a trace needs milliseconds that never go back and end above 0")


def _is_trace(trace: RateTrace) -> bool:
    moments = trace.opportunities
    ordered = all(earlier <= later for earlier, later in pairwise(moments))
    return bool(moments) and moments[0] >= 0 and moments[-1] > 0 and ordered


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


def _queue_problems(path: Path, queue: Queue) -> Iterator[Problem]:
    limit = queue.limit
    if not 0 < limit.amount < 1e15:
        text = f"expected room for something, got {limit.amount!r} {limit.unit}"
        yield Problem((*path, "limit"), text)
    if queue.ecn and queue.aqm is None:
        text = "a drop-tail queue has nothing to mark; set `aqm:` too, e.g. `aqm: codel`"
        yield Problem((*path, "ecn"), text)
    where = (*path, "aqm")
    match queue.aqm:
        case Codel(target=target, interval=interval) if not 0 < target < interval <= MAX_DELAY:
            text = f"expected 0 < target < interval, got {_seconds(target)}, {_seconds(interval)}"
            yield Problem(where, text)
        case Red(minimum=None, maximum=None):
            yield from _red_problems(where, queue.aqm)
        case Red(minimum=minimum, maximum=maximum):
            if minimum is None or maximum is None:
                yield Problem(where, "`minimum` and `maximum` go together: both or neither")
            elif not 0 <= minimum < maximum < math.inf:
                text = f"expected minimum < maximum, got {minimum!r} and {maximum!r} bytes"
                yield Problem(where, text)
            yield from _red_problems(where, queue.aqm)


def _red_problems(path: Path, red: Red) -> Iterator[Problem]:
    for field in ("probability", "weight"):
        value = getattr(red, field)
        if not 0 < value <= 1:
            yield Problem((*path, field), f"expected more than 0, up to 100%, got {value!r}")


def _random_problems(path: Path, given: msgspec.Struct | None) -> Iterator[Problem]:
    """Of what happens by chance: every number in it is a probability but for these two."""
    if given is None:
        return
    for field in given.__struct_fields__:
        value = getattr(given, field)
        if field == "spread":
            if not 0 <= value <= MAX_DELAY:
                most = format_duration(MAX_DELAY)
                yield Problem((*path, field), f"expected 0 to {most}, got {_seconds(value)}")
        elif field == "gap":
            if value < 1:
                yield Problem((*path, field), f"expected 1 or more, got {value!r}")
        elif isinstance(value, int | float) and not 0 <= value <= 1:
            yield Problem((*path, field), f"expected 0 to 1, got {value!r}")
    if isinstance(given, FourState):
        for first, second in (("p13", "p14"), ("p31", "p32")):
            total = (getattr(given, first) or 0) + getattr(given, second)
            if total > 1:
                yield Problem(path, f"{first} and {second} come to {total:.9g}, more than 100%")


def _rule_problems(path: Path, rule: DropRule) -> Iterator[Problem]:
    asked = [name for name in _COUNTS if getattr(rule, name) is not None]
    if len(asked) != 1:
        found = join(asked, "and") or "none"
        yield Problem(path, f"expected exactly one of {join(_COUNTS)}, got {found}")
    if rule.flags is None and rule.nth != 1:
        yield Problem((*path, "nth"), "only `flags` are counted by `nth`")
    for name in ("packet", "data_segment", "retransmission", "nth", "connection"):
        value = getattr(rule, name)
        if value is not None and value < 1:
            yield Problem((*path, name), f"it counts from 1, got {value!r}")
    if rule.flags is not None and not names.matches(names.TCP_FLAGS, rule.flags):
        text = f"expected TCP flags such as SYN or FIN+ACK, got {quote(rule.flags)}"
        yield Problem((*path, "flags"), text)


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


def _seconds(value: float) -> str:
    return format_duration(value) if value > 0 else repr(value)
