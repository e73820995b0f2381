"""Impairments as qdiscs: numbers that are worked out by hand, and what is refused."""

from __future__ import annotations

import statistics

import pytest

from testbed.emulator.netem import description as netem
from testbed.kernel.netlink import queue_qdiscs as queues
from testbed.kernel.netlink.netem_qdisc import CERTAIN, INSTANT, TABLE_SCALE, BurstLoss, StateLoss
from testbed.topology.model import (
    Chance,
    Codel,
    Corrupt,
    DropRule,
    Endpoint,
    FourState,
    GilbertElliott,
    Impairments,
    Jitter,
    KernelAqm,
    Link,
    Queue,
    QueueLimit,
    RateTrace,
    Red,
    Reorder,
    ScheduledChange,
)

HALF = round(CERTAIN / 2)


def described(round_trip: float = 0.1, mtu: int = 1500, **given) -> netem.Hops:
    return netem.hops(Impairments(**given), round_trip, mtu)


def test_nothing_asked_for_passes_at_once():
    hops = described()
    assert (hops.chance.loss, hops.way.delay, hops.way.rate) == (0, 0, 0)
    assert hops.limiter.rate == netem.UNLIMITED
    assert hops.queue == queues.Fifo(limit=netem.MOST_PACKETS)


def test_the_first_hop_lets_go_of_the_senders_socket():
    """netem orphans packets where it has a rate; TCP small queues would hold back the sender."""
    assert described(rate=1e6).chance.rate == INSTANT


def test_chance_comes_before_the_queue_and_delay_after_it():
    hops = described(
        loss=0.5,
        delay=0.02,
        duplicate=Chance(probability=0.5, correlation=0.25),
        corrupt=Corrupt(probability=0.5),
        reorder=Reorder(probability=0.5, gap=3),
    )
    assert (hops.chance.loss, hops.chance.duplicate, hops.chance.corrupt) == (HALF,) * 3
    assert hops.chance.duplicate_correlation == round(CERTAIN / 4)
    assert hops.chance.delay == 0
    assert (hops.way.delay, hops.way.reorder, hops.way.gap) == (20_000_000, HALF, 3)
    assert hops.way.loss == 0


def test_loss_models():
    bursts = described(loss_model=GilbertElliott(p=0.5, bad_loss=0.5, good_loss=0.0))
    assert bursts.chance.loss_model == BurstLoss(p=HALF, r=HALF, h=HALF, k1=0)
    states = described(loss_model=FourState(p13=0.5, p32=0.5, p23=0.5, p14=0.0))
    assert states.chance.loss_model == StateLoss(p13=HALF, p31=HALF, p32=HALF, p14=0, p23=HALF)


@pytest.mark.parametrize(
    ("distribution", "deviation"), [("normal", 1.0), ("uniform", 0.577), ("pareto", 0.737)]
)
def test_tables_have_mean_zero_and_fit_the_kernel(distribution, deviation):
    table = described(jitter=Jitter(spread=0.001, distribution=distribution)).way.table
    assert len(table) <= 16384  # NETEM_DIST_MAX
    assert all(-(1 << 15) <= entry < 1 << 15 for entry in table)
    assert statistics.mean(table) == pytest.approx(0, abs=0.03 * TABLE_SCALE)
    assert statistics.pstdev(table) == pytest.approx(deviation * TABLE_SCALE, rel=0.03)


def test_jitter_that_may_reorder_has_no_rate_to_keep_it_in_order():
    assert described(jitter=Jitter(spread=0.001)).way.rate == INSTANT
    assert described(jitter=Jitter(spread=0.001, reorder=True)).way.rate == 0


def test_what_the_way_holds_is_taken_from_the_limit():
    """80 Mbit/s: 1 ms is 10,000 bytes, six frames of 1518."""
    packets = described(rate=80e6, queue=Queue(limit=QueueLimit(100, "packets")))
    assert packets.limiter.burst == 1518 + 10_000
    assert packets.queue == queues.Fifo(limit=94)
    octets = described(rate=80e6, queue=Queue(limit=QueueLimit(50_000, "bytes")))
    assert octets.queue == queues.Fifo(limit=40_000, counts_bytes=True)
    assert octets.limiter.limit == 40_000
    assert octets.way.rate == 10_000_000


def test_a_longer_head_start_holds_more_on_the_way():
    given = Impairments(rate=80e6, queue=Queue(limit=QueueLimit(100, "packets")))
    hops = netem.hops(given, 0.1, 1500, head_start=netem.HeadStart(0.002, 0.001))
    assert (hops.limiter.burst, hops.queue.limit) == (1518 + 20_000, 100 - 13)
    managed = Impairments(rate=80e6, queue=Queue(aqm=Codel()))
    hops = netem.hops(managed, 0.1, 1500, head_start=netem.HeadStart(0.002, 0.001))
    assert (hops.limiter.burst, hops.queue.limit) == (1518 + 10_000, 1000)


@pytest.mark.parametrize(
    "limit", [QueueLimit(0, "packets"), QueueLimit(0, "bytes"), QueueLimit(1, "packets")]
)
def test_the_smallest_queue_lets_a_frame_pass(limit):
    queue = described(rate=1e9, queue=Queue(limit=limit)).queue
    assert queue.limit >= (1518 if queue.counts_bytes else 1)


def test_limits_in_time_and_in_bandwidth_delay_products():
    # 8 Mbit/s: 1 ms is 1,000 bytes.
    time = described(rate=8e6, queue=Queue(limit=QueueLimit(0.05, "seconds")))
    assert time.queue.limit == 50_000 - 1_000
    bdp = described(0.2, rate=8e6, queue=Queue(limit=QueueLimit(2, "bdp")))
    assert bdp.queue.limit == 2 * 200_000 - 1_000


def test_disciplines():
    rate = 8e6
    codel = described(rate=rate, queue=Queue(aqm=Codel(target=0.01, interval=0.2), ecn=True))
    assert codel.queue == queues.ControlledDelay(
        limit=1000, target=10_000, interval=200_000, ecn=True
    )
    red = described(
        rate=rate, queue=Queue(aqm=Red(weight=0.002), limit=QueueLimit(120_000, "bytes"))
    ).queue
    assert isinstance(red, queues.RandomEarly)
    assert (red.limit, red.minimum, red.maximum) == (120_000, 10_000, 30_000)
    assert (red.weight_log, red.ecn, red.packet_time) == (9, False, 1514)
    pie = described(rate=rate, queue=Queue(aqm=KernelAqm(name="pie")))
    assert pie.queue == queues.ProportionalIntegral(limit=1000, ecn=False)
    cake = described(rate=rate, overhead=4, queue=Queue(aqm=KernelAqm(name="cake")))
    assert cake.queue == queues.Cake(rate=1_000_000, overhead=4)
    assert cake.limiter.rate == netem.UNLIMITED


def test_seeds_differ_by_link_direction_and_hop_and_by_nothing_else():
    seeds = [
        netem.seeds(seed, link, direction)
        for seed in (0, 1)
        for link in ("a", "b")
        for direction in ("forward", "reverse")
    ]
    numbers = {number for each in seeds for number in (each.chance, each.way)}
    assert len(numbers) == 16
    assert netem.seeds(1, "b", "reverse") == seeds[-1]
    hops = netem.hops(Impairments(), 0.0, 1500, seeds=seeds[0])
    assert (hops.chance.seed, hops.way.seed) == (seeds[0].chance, seeds[0].way)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"drop": (DropRule(packet=3),)}, "script"),
        ({"rate_trace": RateTrace((1, 2))}, "trace"),
        ({"corrupt": Corrupt(probability=0.1, where="payload")}, "payload"),
        ({"rate": 1e6, "jitter": Jitter(spread=0.001, reorder=True)}, "in order"),
        ({"jitter": Jitter(spread=3.0)}, "2.147 s"),
        ({"jitter": Jitter(spread=0.03, correlation=0.9)}, "low bits"),
        (
            {"jitter": Jitter(spread=0.03, correlation=0.9, distribution="uniform")},
            "low bits",
        ),
        ({"rate": 1000.0}, "2 kbit/s"),
        (
            {"queue": Queue(aqm=KernelAqm(name="cake"), limit=QueueLimit(5, "packets"))},
            "own buffer",
        ),
        (
            {
                "rate": 1e9,
                "queue": Queue(aqm=Red(weight=0.001), limit=QueueLimit(100_000_000, "bytes")),
            },
            "average",
        ),
    ],
)
def test_what_netem_cannot_do_is_refused_with_the_way_out(given, reason):
    (problem,) = netem.refusals(Impairments(**given))
    assert reason in problem
    assert "use " in problem or "leave " in problem or "is used from" in problem


def link(**settings) -> Link:
    return Link(endpoints=(Endpoint("a", "eth0"), Endpoint("b", "eth0")), **settings)


def test_a_link_is_refused_for_its_log_and_for_what_its_schedule_comes_to():
    assert list(netem.link_refusals(link())) == []
    assert "log" in next(iter(netem.link_refusals(link(log=True))))
    later = ScheduledChange(at=1.0, changes={"corrupt": {"probability": 0.1, "where": "header"}})
    assert "header" in next(iter(netem.link_refusals(link(schedule=(later,)))))


def test_needed_kinds():
    assert netem.needed_kinds(Impairments()) == {"netem", "tbf", "pfifo"}
    given = Impairments(rate=1e6, queue=Queue(aqm=KernelAqm(name="fq_codel")))
    assert netem.needed_kinds(given) == {"netem", "tbf", "fq_codel"}
