"""What no link can have: impairments are checked before anything is changed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from testbed.emulator.script import flags_of
from testbed.topology.model import (
    Codel,
    DropRule,
    FourState,
    GilbertElliott,
    Impairments,
    KernelAqm,
    Queue,
    RateTrace,
    Red,
)

_PROBABILITIES = (
    "probability",
    "correlation",
    "p",
    "r",
    "bad_loss",
    "good_loss",
    "p13",
    "p31",
    "p32",
    "p23",
    "p14",
)
LONGEST_DELAY = 3600.0


def refuse_impossible(impairments: Impairments, *, kernel_queues: bool = False) -> None:
    """Raise `ValueError`, naming everything that the userspace emulator cannot do.

    kernel_queues: let queue disciplines pass that only the kernel has.
    """
    problems = list(_problems(impairments, kernel_queues))
    if problems:
        raise ValueError("; ".join(problems))


def _problems(given: Impairments, kernel_queues: bool) -> Iterator[str]:
    if given.rate is not None and not 1 <= given.rate < math.inf:
        yield f"rate must be 1 bit/s or more, or unlimited, not {given.rate}"
    if given.rate is not None and given.rate_trace is not None:
        yield "rate must be constant or a trace, not both"
    if not 0 <= given.delay <= LONGEST_DELAY:
        yield f"delay must be 0 to {LONGEST_DELAY:g} seconds, not {given.delay}"
    if not 0 <= given.loss <= 1:
        yield f"loss must be a probability from 0 to 1, not {given.loss}"
    if given.loss and given.loss_model is not None:
        yield "loss must be independent or by a model, not both"
    if not 0 <= given.overhead <= 1 << 16:
        yield f"overhead must be 0 to {1 << 16} bytes, not {given.overhead}"
    if given.jitter is not None and not 0 <= given.jitter.spread <= LONGEST_DELAY:
        yield f"jitter spread must be 0 to {LONGEST_DELAY:g} seconds, not {given.jitter.spread}"
    if given.reorder is not None and given.reorder.gap < 1:
        yield f"reorder gap must be 1 or more, not {given.reorder.gap}"
    yield from _bad_probabilities(given)
    yield from _queue_problems(given.queue, kernel_queues)
    if given.rate_trace is not None:
        yield from _trace_problems(given.rate_trace)
    for rule in given.drop:
        yield from _rule_problems(rule)


def _bad_probabilities(given: Impairments) -> Iterator[str]:
    """Of everything that has probabilities of its own."""
    for name in ("jitter", "loss_model", "duplicate", "reorder", "corrupt"):
        part = getattr(given, name)
        for field in _PROBABILITIES:
            value = getattr(part, field, None)
            if value is not None and not 0 <= value <= 1:
                yield f"{name} {field} must be a probability from 0 to 1, not {value}"
    match given.loss_model:
        case FourState(p13=p13, p14=p14, p31=p31, p32=p32):
            if p13 + p14 > 1 or (p31 is not None and p31 + p32 > 1):
                yield "loss_model p13 + p14 and p31 + p32 must be 1 at most"
        case GilbertElliott() | None:
            pass


def _queue_problems(queue: Queue, kernel_queues: bool) -> Iterator[str]:
    if not 0 <= queue.limit.amount < math.inf:
        yield f"queue limit must be 0 or more, not {queue.limit.amount}"
    if queue.ecn and queue.aqm is None:
        yield "queue ecn must have an aqm to decide what is marked (red or codel)"
    match queue.aqm:
        case KernelAqm(name=name) if not kernel_queues:
            yield (
                f"the userspace emulator has no {name}, only red and codel: take one of them, "
                "or the netem emulator on a kernel that has it"
            )
        case Codel(target=target, interval=interval):
            if not 0 < target < interval <= LONGEST_DELAY:
                yield f"codel must have 0 < target < interval, not {target} and {interval} s"
        case Red():
            yield from _red_problems(queue.aqm)
        case _:
            pass


def _red_problems(red: Red) -> Iterator[str]:
    if (red.minimum is None) != (red.maximum is None):
        yield "red must have both minimum and maximum, or neither"
    elif red.minimum is not None and not 0 <= red.minimum < (red.maximum or 0) < math.inf:
        yield f"red must have 0 <= minimum < maximum, not {red.minimum} and {red.maximum}"
    if not 0 < red.probability <= 1:
        yield f"red probability must be above 0 and 1 at most, not {red.probability}"
    if not 0 < red.weight <= 1:
        yield f"red weight must be above 0 and 1 at most, not {red.weight}"


def _trace_problems(trace: RateTrace) -> Iterator[str]:
    lines = trace.opportunities
    if not lines or lines[-1] <= 0:
        yield "a rate trace must have a line later than 0 ms"
    elif lines[0] < 0 or any(later < earlier for earlier, later in pairwise(lines)):
        yield "a rate trace must have milliseconds from 0 on that never go back"


def _rule_problems(rule: DropRule) -> Iterator[str]:
    asked = [
        name
        for name in ("packet", "data_segment", "retransmission", "flags")
        if getattr(rule, name) is not None
    ]
    if len(asked) != 1:
        yield (
            "a drop rule must have exactly one of packet, data_segment, retransmission and flags, "
            f"not {' and '.join(asked) or 'none'}"
        )
    for name in ("packet", "data_segment", "retransmission", "nth", "connection"):
        value = getattr(rule, name)
        if value is not None and value < 1:
            yield f"a drop rule's {name} counts from 1, so it cannot be {value}"
    if rule.flags is not None:
        try:
            flags_of(rule.flags)
        except ValueError as error:
            yield str(error)
