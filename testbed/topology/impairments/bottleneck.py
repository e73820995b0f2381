"""The rate of a link, what each frame takes of it, and the queue in front of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import msgspec

from testbed.topology.impairments.declaration import MAX_DELAY, Impairment, probability, seconds
from testbed.topology.model import Codel, Impairments, KernelAqm, Queue, RateTrace, Red
from testbed.topology.problems import Path, Problem
from testbed.topology.units import RATE as RATES
from testbed.topology.values import scalars
from testbed.topology.values.scalars import DURATION, PROBABILITY, SIZE, SWITCH
from testbed.topology.values.shapes import Either, Key, Record, Variants

MAX_OVERHEAD: Final = 65536


class TraceFile(msgspec.Struct, frozen=True):
    """A rate trace by the name of its file, still to be read."""

    trace: str


def _rate_problems(path: Path, given: Impairments) -> Iterator[Problem]:
    if given.rate is not None and not RATES.least <= given.rate <= RATES.most:
        yield Problem(path, f"expected 1 to 1e14 bit/s, got {given.rate!r}")
    if given.rate is not None and given.rate_trace is not None:
        yield Problem(path, "a constant rate and a trace; one of the two")
    if given.rate_trace is not None and not _is_trace(given.rate_trace):
        yield Problem(path, "a trace needs milliseconds that never go back and end above 0")


def _is_trace(trace: RateTrace) -> bool:
    moments = trace.opportunities
    ordered = all(earlier <= later for earlier, later in pairwise(moments))
    return bool(moments) and moments[0] >= 0 and moments[-1] > 0 and ordered


def _overhead_problems(path: Path, given: Impairments) -> Iterator[Problem]:
    if not 0 <= given.overhead <= MAX_OVERHEAD:
        yield Problem(path, f"expected 0 to {MAX_OVERHEAD} bytes, got {given.overhead!r}")


def _queue_problems(path: Path, given: Impairments) -> Iterator[Problem]:
    queue, limit = given.queue, given.queue.limit
    if not 0 < limit.amount < 1e15:
        text = f"expected room for something, got {limit.amount!r} {limit.unit}"
        yield Problem((*path, "limit"), text)
    if queue.ecn and queue.aqm is None:
        text = "a drop-tail queue has nothing to mark; set `aqm:` too, e.g. `aqm: codel`"
        yield Problem((*path, "ecn"), text)
    where = (*path, "aqm")
    match queue.aqm:
        case Codel(target=target, interval=interval) if not 0 < target < interval <= MAX_DELAY:
            text = f"expected 0 < target < interval, got {seconds(target)}, {seconds(interval)}"
            yield Problem(where, text)
        case Red() as red:
            yield from _red_problems(where, red)


def _red_problems(path: Path, red: Red) -> Iterator[Problem]:
    minimum, maximum = red.minimum, red.maximum
    if (minimum is None) != (maximum is None):
        yield Problem(path, "`minimum` and `maximum` go together: both or neither")
    elif minimum is not None and maximum is not None and not 0 <= minimum < maximum < math.inf:
        yield Problem(path, f"expected minimum < maximum, got {minimum!r} and {maximum!r} bytes")
    for field in ("probability", "weight"):
        value = getattr(red, field)
        if not 0 < value <= 1:
            yield Problem((*path, field), f"expected more than 0, up to 100%, got {value!r}")


def _discipline(name: str) -> Red | Codel | KernelAqm:
    return Red() if name == "red" else Codel() if name == "codel" else _kernel_aqm(name)


def _kernel_aqm(name: Any) -> KernelAqm:
    return KernelAqm(name=name)


def _kernel_only(name: str) -> Record:
    return Record(
        name,
        f"The kernel's {name} with its defaults: netem emulator only.",
        (),
        build=lambda: _kernel_aqm(name),
    )


_RATE_TRACE: Final = Record(
    "trace",
    "A rate that varies, in mahimahi's format: a line for each opportunity to send one "
    "full-sized packet, in whole milliseconds from the start; repeated for ever. "
    "Userspace emulator only.",
    (Key("trace", scalars.FILE, "The file, relative to this one.", required=True),),
    build=TraceFile,
)
_RED: Final = Record(
    "red",
    "Random early detection (Floyd and Jacobson 1993).",
    (
        Key("minimum", SIZE, "Average queue from which on it acts.", default="limit / 12"),
        Key("maximum", SIZE, "Average queue above which it hits all.", default="limit / 4"),
        probability("Of being hit at the maximum.", required=False, default="`10%`"),
        Key("weight", PROBABILITY, "Of the newest sample in the average.", default="`0.002`"),
    ),
    build=Red,
)
_CODEL: Final = Record(
    "codel",
    "Controlled delay (RFC 8289).",
    (
        Key("target", DURATION, "Waiting that is always acceptable.", default="`5ms`"),
        Key("interval", DURATION, "How long more is acceptable.", default="`100ms`"),
    ),
    build=Codel,
)
_QUEUE: Final = Record(
    "queue",
    "The queue in front of the rate: drop-tail, or managed by a discipline.",
    (
        Key(
            "limit",
            scalars.QUEUE_LIMIT,
            "How much may wait for the bottleneck (packets in flight never count).",
            default="`1000 packets`",
        ),
        Key(
            "aqm",
            Either(
                scalars.AQM,
                Variants(
                    Key("discipline", scalars.AQM, "Which one.", required=True),
                    {
                        "red": _RED,
                        "codel": _CODEL,
                        **{name: _kernel_only(name) for name in ("fq_codel", "pie", "cake")},
                    },
                ),
                _discipline,
            ),
            "Active queue management; the userspace emulator has red and codel.",
            default="none: drop-tail",
        ),
        Key(
            "ecn",
            SWITCH,
            "Mark packets of ECN-capable transports instead of dropping them.",
            default="`false`",
        ),
    ),
    build=Queue,
)
RATE: Final = Impairment(
    key=Key(
        "rate",
        Either(scalars.RATE, _RATE_TRACE),
        "Rate at the bottleneck.",
        default="unlimited",
    ),
    fields={"rate": (float,), "rate_trace": (RateTrace,)},
    problems=_rate_problems,
    number=float,
)
OVERHEAD: Final = Impairment(
    key=Key(
        "overhead",
        scalars.OVERHEAD,
        "Bytes that each frame occupies the bottleneck for beyond its own.",
        default="`0`",
    ),
    fields={"overhead": (int,)},
    problems=_overhead_problems,
)
QUEUE: Final = Impairment(
    key=Key(
        "queue",
        Either(scalars.QUEUE_LIMIT, _QUEUE, lambda limit: Queue(limit=limit)),
        "The queue in front of the rate; a limit alone means drop-tail.",
        default="`1000 packets`",
    ),
    fields={"queue": (Queue,)},
    problems=_queue_problems,
)
