"""What the kernel's qdiscs must be told, so that they do to packets what impairments say.

Pure: nothing here talks to the kernel. Three hops in a row, each the way out of an interface of
its own, stand for the elements of the userspace emulator, in the same order:

  chance: duplication, loss, corruption (netem without delay);
  queue: rate and queue (tbf, and behind it a fifo, an AQM, or cake with a rate of its own);
  way: delay, jitter, reordering (netem).

So a queue limit counts the packets that wait, and never those that are under way. tbf lets a
packet go when its transmission begins, and a little in advance so that a late timer costs no
rate; netem on the way sends at the same rate, which puts every packet at the end of its own
transmission. What the way holds for that is taken from the queue's limit. Behind a rate packets
stay in order even when the delay is made shorter.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from testbed.emulator.changes import BothDirections, after
from testbed.emulator.elements.bottleneck import limits_of
from testbed.emulator.elements.jitter import TABLE_SIZE, normal_table, pareto_table
from testbed.kernel.netlink import queue_qdiscs as queues
from testbed.kernel.netlink.netem_qdisc import (
    CERTAIN,
    INSTANT,
    TABLE_SCALE,
    BurstLoss,
    LossModel,
    Netem,
    StateLoss,
)
from testbed.topology.model import (
    Codel,
    FourState,
    GilbertElliott,
    Impairments,
    Jitter,
    KernelAqm,
    Link,
    Queue,
    Red,
)
from testbed.wire.frame import FULL_FRAME

#: Packets that one hop may hold; there to bound the kernel's memory.
MOST_PACKETS = 1 << 20
#: What stands for no limit of the rate, bytes per second; and what may pass at once then.
UNLIMITED = 100_000_000_000 // 8
_UNLIMITED_BURST = 4 << 20

_FRAME_HEADER = 18  # Ethernet with one VLAN tag
_NS = 1_000_000_000
_LONGEST_JITTER = (1 << 31) - 1  # ns; netem's arithmetic is in 32 bits (tabledist)
_LARGEST_OFFLOADED = 65536 + _FRAME_HEADER
_LOWEST_RATE = 2000  # bit/s; below, the time of the largest burst is too long to be read back
_RED_BITS = 31  # of a threshold and the weight together (red_check_params)
_DEFAULT_LIMIT = Queue().limit

QueueQdisc: TypeAlias = queues.Queue


class Hops(msgspec.Struct, frozen=True, kw_only=True):
    """The qdiscs of one direction, in the order in which packets meet them; `queue` is behind
    `limiter`."""

    chance: Netem
    limiter: queues.Tbf
    queue: QueueQdisc
    way: Netem


class HeadStart(msgspec.Struct, frozen=True):
    """How long before its transmission, in seconds, tbf may let a packet go: for a drop-tail queue
    and for a managed one.

    A timer that is later than this costs rate. In exchange an AQM does not see packets for so
    long, and a drop-tail queue with a limit in packets takes more of them when they are small.
    """

    drop_tail: float
    managed: float


#: For ordinary kernels, whose timers are late by a tenth of a millisecond.
HEAD_START = HeadStart(0.001, 0.001)
#: For User-Mode Linux, whose timers are late by several milliseconds now and then.
LONG_HEAD_START = HeadStart(0.020, 0.005)


class Seeds(msgspec.Struct, frozen=True):
    """Of the generators of the two netem hops; None where the kernel cannot be told."""

    chance: int | None = None
    way: int | None = None


def seeds(seed: int, link: str, direction: str) -> Seeds:
    """Different ones for each link and direction, the same in every run."""

    def of(hop: str) -> int:
        digest = hashlib.sha256(f"{seed}/{link}/{direction}/{hop}".encode()).digest()
        return int.from_bytes(digest[:8], "little")

    return Seeds(of("chance"), of("way"))


def hops(
    impairments: Impairments,
    round_trip: float,
    mtu: int,
    *,
    offload: bool = False,
    seeds: Seeds | None = None,
    head_start: HeadStart = HEAD_START,
) -> Hops:
    """The qdiscs for one direction of a link.

    round_trip: sum of the delays of both directions, in seconds, for limits in BDP. The caller
    has made sure that there are no `refusals`.
    """
    frame = _LARGEST_OFFLOADED if offload else mtu + _FRAME_HEADER
    limiter, queue = _bottleneck(impairments, round_trip, frame, head_start)
    seeded = seeds or Seeds()
    return Hops(
        chance=_chance(impairments, seeded.chance),
        limiter=limiter,
        queue=queue,
        way=_way(impairments, seeded.way),
    )


def refusals(impairments: Impairments) -> Iterator[str]:
    """What netem cannot do of this, each with the reason and the way out."""
    if impairments.drop:
        yield "netem cannot drop packets by a script, it only draws lots; use `emulator: userspace`"
    if impairments.match:
        yield "netem treats all packets of a direction alike; use `emulator: userspace` for `match`"
    if impairments.rate_trace is not None:
        yield "netem cannot follow a rate trace; use `emulator: userspace`, or a schedule of rates"
    if impairments.corrupt is not None and impairments.corrupt.where != "any":
        yield (
            "netem flips bits anywhere in a frame, not in its "
            f"{impairments.corrupt.where} alone; use `where: any` or `emulator: userspace`"
        )
    jitter = impairments.jitter
    if jitter is not None and jitter.reorder and impairments.rate is not None:
        yield (
            "netem keeps packets in order where it sends them at a rate, so jitter cannot reorder "
            "them; take away the rate or `reorder: true`, or use `emulator: userspace`"
        )
    if jitter is not None and jitter.spread * _NS > _LONGEST_JITTER:
        yield (
            f"netem's jitter ends at {_LONGEST_JITTER / _NS:.3f} s, {jitter.spread:g} s is more; "
            "use less or `emulator: userspace`"
        )
    if jitter is not None and jitter.correlation:
        yield (
            "netem takes jitter from the low bits of its random numbers, which no `correlation` "
            "reaches (tabledist); leave it out or use `emulator: userspace`"
        )
    rate = impairments.rate
    if rate is not None and not _LOWEST_RATE <= rate <= UNLIMITED * 8:
        yield f"the kernel's tbf is used from 2 kbit/s to 100 Gbit/s, not for {rate:g} bit/s"
    match impairments.queue.aqm:
        case KernelAqm(name="cake") if impairments.queue.limit != _DEFAULT_LIMIT:
            yield "cake sizes its own buffer; leave the limit of the queue out"
        case Red() as red if impairments.rate is not None:
            described = _red(red, impairments, 1.0)
            if described.maximum.bit_length() + described.weight_log > _RED_BITS:
                yield (
                    f"the kernel's red cannot average {described.maximum} bytes with a weight of "
                    f"{red.weight:g}; use a smaller maximum or a larger weight"
                )
        case _:
            pass


def link_refusals(link: Link) -> Iterator[str]:
    """The same for a whole link and its schedule."""
    found = [problem for impairments in stages(link) for problem in refusals(impairments)]
    if link.log:
        found.append("netem keeps no log of every packet's fate; use `emulator: userspace`")
    yield from dict.fromkeys(found)


def stages(link: Link) -> Iterator[Impairments]:
    """The impairments of both directions that the link comes to have.

    Raises `ValueError` for a schedule that cannot be applied.
    """
    in_force: BothDirections = {"forward": link.forward, "reverse": link.reverse}
    yield from in_force.values()
    for change in sorted(link.schedule, key=lambda one: one.at):
        in_force = after(in_force, change)
        yield from in_force.values()


def needed_kinds(impairments: Impairments) -> set[str]:
    """The qdiscs that this needs; all but netem and tbf can be missing from a kernel with netem."""
    described = hops(impairments, 1.0, 1500)
    return {described.chance.kind, described.limiter.kind, described.queue.kind}


def _share(probability: float) -> int:
    return round(probability * CERTAIN)


def _chance(given: Impairments, seed: int | None) -> Netem:
    duplicate, corrupt = given.duplicate, given.corrupt
    return Netem(
        limit=MOST_PACKETS,
        loss=_share(given.loss),
        loss_model=_loss_model(given.loss_model),
        duplicate=_share(duplicate.probability) if duplicate else 0,
        duplicate_correlation=_share(duplicate.correlation) if duplicate else 0,
        corrupt=_share(corrupt.probability) if corrupt else 0,
        corrupt_correlation=_share(corrupt.correlation) if corrupt else 0,
        seed=seed,
    )


def _loss_model(model: GilbertElliott | FourState | None) -> LossModel | None:
    match model:
        case GilbertElliott(p=p, r=r, bad_loss=bad_loss, good_loss=good_loss):
            back = 1 - p if r is None else r
            passes = _share(1 - bad_loss)
            return BurstLoss(p=_share(p), r=_share(back), h=passes, k1=_share(good_loss))
        case FourState(p13=p13, p31=p31, p32=p32, p23=p23, p14=p14):
            back = 1 - p13 if p31 is None else p31
            numbers = [_share(number) for number in (p13, back, p32, p14, p23)]
            names = ("p13", "p31", "p32", "p14", "p23")
            return StateLoss(**dict(zip(names, numbers, strict=True)))
        case None:
            return None


def _way(given: Impairments, seed: int | None) -> Netem:
    jitter, reorder = given.jitter, given.reorder
    if given.rate is not None:
        rate = _bytes_per_second(given.rate)
    else:
        # With a rate, packets stay in order.
        rate = INSTANT if jitter is not None and not jitter.reorder else 0
    return Netem(
        limit=MOST_PACKETS,
        delay=round(given.delay * _NS),
        jitter=round(jitter.spread * _NS) if jitter else 0,
        table=_table(jitter) if jitter else (),
        reorder=_share(reorder.probability) if reorder else 0,
        reorder_correlation=_share(reorder.correlation) if reorder else 0,
        gap=reorder.gap if reorder else 0,
        rate=rate,
        overhead=given.overhead if given.rate is not None else 0,
        seed=seed,
    )


def _table(jitter: Jitter) -> tuple[int, ...]:
    """Always a table, for uniform jitter too: netem cannot be told to forget one."""
    if jitter.distribution == "uniform":
        quantiles = tuple(2 * (index + 0.5) / TABLE_SIZE - 1 for index in range(TABLE_SIZE))
    else:
        quantiles = normal_table() if jitter.distribution == "normal" else pareto_table()
    largest = (1 << 15) - 1
    return tuple(max(-largest, min(largest, round(each * TABLE_SCALE))) for each in quantiles)


def _bytes_per_second(rate: float) -> int:
    return max(1, round(rate / 8))


def _bottleneck(
    given: Impairments, round_trip: float, frame: int, start: HeadStart
) -> tuple[queues.Tbf, QueueQdisc]:
    if given.rate is None:
        return _pass_through(queues.Fifo(limit=MOST_PACKETS))
    rate = _bytes_per_second(given.rate)
    if isinstance(given.queue.aqm, KernelAqm) and given.queue.aqm.name == "cake":
        return _pass_through(queues.Cake(rate=rate, overhead=given.overhead))
    max_packets, max_bytes = limits_of(given.queue.limit, given.rate, round_trip)
    if given.queue.aqm is not None:
        head_start = int(rate * start.managed)
        queue = _managed(given, round_trip)
        limit = frame
    else:
        head_start = int(min(rate * start.drop_tail, max_bytes, max_packets * frame))
        queue = _drop_tail(max_packets, max_bytes, head_start, frame)
        limit = queue.limit
    limiter = queues.Tbf(rate=rate, burst=frame + head_start, limit=limit, overhead=given.overhead)
    return limiter, queue


def _pass_through(queue: QueueQdisc) -> tuple[queues.Tbf, QueueQdisc]:
    limiter = queues.Tbf(rate=UNLIMITED, burst=_UNLIMITED_BURST, limit=MOST_PACKETS)
    return limiter, queue


def _drop_tail(max_packets: float, max_bytes: float, head_start: int, frame: int) -> queues.Fifo:
    """A packet always passes through the queue, even on its way into a free transmitter, so there
    is room for one in any case."""
    if max_packets < math.inf:
        waiting = int(max_packets) - head_start // frame
        return queues.Fifo(limit=min(max(waiting, 1), MOST_PACKETS))
    room = max(int(max_bytes) - head_start, frame)
    return queues.Fifo(limit=min(room, CERTAIN), counts_bytes=True)


def _managed(given: Impairments, round_trip: float) -> QueueQdisc:
    queue = given.queue
    max_packets, max_bytes = limits_of(queue.limit, given.rate, round_trip)
    packets = int(min(max_packets, max(1.0, max_bytes / FULL_FRAME), MOST_PACKETS))
    match queue.aqm:
        case Red() as red:
            return _red(red, given, round_trip)
        case Codel(target=target, interval=interval):
            return queues.ControlledDelay(
                limit=packets,
                target=max(1, round(target * 1e6)),
                interval=max(1, round(interval * 1e6)),
                ecn=queue.ecn,
            )
        case KernelAqm(name="fq_codel"):
            return queues.FairControlledDelay(limit=packets, ecn=queue.ecn)
        case _:
            return queues.ProportionalIntegral(limit=packets, ecn=queue.ecn)


def _red(red: Red, given: Impairments, round_trip: float) -> queues.RandomEarly:
    """The weight becomes the nearest power of two that the kernel has."""
    max_packets, max_bytes = limits_of(given.queue.limit, given.rate, round_trip)
    limit = int(min(max_bytes, max_packets * FULL_FRAME, CERTAIN))
    minimum = limit / 12 if red.minimum is None else red.minimum
    maximum = limit / 4 if red.maximum is None else red.maximum
    return queues.RandomEarly(
        limit=limit,
        minimum=max(1, int(minimum)),
        maximum=max(2, int(maximum)),
        probability=min(round(red.probability * (1 << 32)), CERTAIN),
        weight_log=max(1, round(-math.log2(red.weight))),
        packet_time=FULL_FRAME * 8e6 / (given.rate or math.inf),
        ecn=given.queue.ecn,
    )
