"""RED and CoDel in front of a virtual bottleneck."""

from __future__ import annotations

import random

import pytest
from emulator_frames import ethernet, internet_checksum, ipv4, tcp

from testbed.emulator.elements.aqm import CodelDiscipline, RandomEarlyDetection
from testbed.topology.model import (
    Codel,
    Impairments,
    KernelAqm,
    Queue,
    QueueLimit,
    RateTrace,
    Red,
)

MS = 1_000_000
SECOND = 1_000 * MS
FRAME = bytes(1000)
RATE = 8e6  # a frame of 1000 bytes takes 1 ms
LARGE = QueueLimit(10_000, "packets")


def overloaded(line, queue: Queue, load: float, seconds: float, frame: bytes = FRAME):
    """A line that is sent `load` times what it can carry, and the delay of what came through."""
    busy = line(Impairments(rate=RATE, queue=queue))
    gap = int(MS / load)
    sent = {}
    for number in range(int(seconds * SECOND / gap)):
        numbered = frame[:-4] + number.to_bytes(4, "big")
        sent[number] = number * gap
        busy.send(numbered, number * gap)
    delays = [(time, time - sent[int.from_bytes(f[-4:], "big")]) for time, f in busy.arrivals()]
    return busy, delays


def test_codel_leaves_a_short_queue_alone(line):
    calm, delays = overloaded(line, Queue(limit=LARGE, aqm=Codel()), load=0.9, seconds=2)
    assert calm.dropped("aqm") == 0
    assert max(delay for _, delay in delays) < 5 * MS


def test_codel_waits_for_an_interval_before_the_first_drop():
    codel = CodelDiscipline(Codel(target=0.005, interval=0.1))
    verdicts = [
        now
        for now in range(0, 300 * MS, MS)
        if codel.condemns_departure(now - 20 * MS, now, 50_000, 1514)
    ]
    assert verdicts[0] == 100 * MS
    # The control law: 100/sqrt(1), 100/sqrt(2) ms later (RFC 8289, section 5.3).
    assert verdicts[1] == 200 * MS
    assert verdicts[2] == pytest.approx(270.7 * MS, abs=2 * MS)


def test_codel_forgives_when_the_delay_falls_below_the_target():
    codel = CodelDiscipline(Codel())
    for now in range(0, 90 * MS, MS):
        assert not codel.condemns_departure(now - 20 * MS, now, 50_000, 1514)
    assert not codel.condemns_departure(90 * MS - MS, 90 * MS, 50_000, 1514)
    for now in range(91 * MS, 180 * MS, MS):
        assert not codel.condemns_departure(now - 20 * MS, now, 50_000, 1514)


def test_codel_never_drops_the_last_frame_of_a_queue():
    codel = CodelDiscipline(Codel())
    assert not any(
        codel.condemns_departure(now - 500 * MS, now, 1000, 1514) for now in range(0, SECOND, MS)
    )


@pytest.mark.parametrize("size", [64, 1514, 9014])
def test_codel_takes_the_largest_frame_for_its_measure(line, size):
    """RFC 8289, section 5.2 (MAXPACKET): one frame behind another is no standing queue."""
    busy = line(Impairments(rate=1e5, queue=Queue(limit=LARGE, aqm=Codel())))
    for _ in range(2):
        busy.send(bytes(size), 0)
    for number in range(200):  # there are always one in the transmitter and two that wait
        busy.send(bytes(size), number * size * 80_000)
    busy.arrivals()
    assert busy.dropped("aqm") == 0


@pytest.mark.parametrize(
    "overload", [{"rate": 12e6}, {"rate_trace": RateTrace(tuple(range(1, 1001)))}]
)
def test_red_forgets_an_overload_whatever_sets_the_rate(line, overload):
    busy = line(Impairments(queue=Queue(limit=LARGE, aqm=Red(weight=0.02)), **overload))
    for number in range(4000):
        busy.send(bytes(1514), number * MS // 4)
    busy.arrivals()
    dropped = busy.dropped("aqm")
    assert dropped > 0
    for second in range(60, 160):
        busy.send(bytes(1514), second * SECOND)
        busy.arrivals()
    assert busy.dropped("aqm") == dropped


@pytest.mark.parametrize("aqm", [Codel(), Red(weight=0.002)])
@pytest.mark.parametrize(
    "limit", [QueueLimit(0.5, "seconds"), QueueLimit(2, "bdp"), QueueLimit(330, "packets")]
)
def test_a_discipline_remembers_across_changes_of_rate_and_delay(line, aqm, limit):
    def drops(*, changing: bool) -> int:
        busy = line(Impairments(), round_trip=0.25)
        for number in range(6000):
            now = number * MS * 5 // 6  # 1.2 times what the link carries
            if number % 60 == 0:
                share = 1.01 if changing and number % 120 else 1.0
                busy.round_trip = 0.25 * share
                busy.set(Impairments(rate=RATE * share, queue=Queue(limit=limit, aqm=aqm)), now)
            busy.send(FRAME, now)
            busy.arrivals(now)
        return busy.dropped("aqm")

    steady = drops(changing=False)
    assert steady > 100
    assert drops(changing=True) == pytest.approx(steady, rel=0.15)


def test_red_takes_thresholds_from_the_limit_in_force(line):
    busy = line(Impairments(rate=1e5, queue=Queue(limit=LARGE, aqm=Red(weight=1.0))))
    for _ in range(50):
        busy.send(FRAME, 0)
    assert busy.dropped("aqm") == 0
    small = Queue(limit=QueueLimit(60_000, "bytes"), aqm=Red(weight=1.0))
    busy.set(Impairments(rate=1e5, queue=small), 0)
    busy.send(FRAME, 0)
    assert busy.dropped("aqm") == 1


def test_codel_drops_ever_more_often_until_the_load_is_gone(line):
    busy, _ = overloaded(line, Queue(limit=LARGE, aqm=Codel()), load=1.1, seconds=5)
    _, unmanaged = overloaded(line, Queue(limit=LARGE), load=1.1, seconds=5)
    _, managed = overloaded(line, Queue(limit=LARGE, aqm=Codel()), load=1.1, seconds=20)
    assert busy.dropped("aqm") > 50
    assert unmanaged[-1][1] > 450 * MS
    assert managed[-1][1] < unmanaged[-1][1]


def test_codel_times_are_exact_behind_drops(line):
    """A dropped frame takes no time of the transmitter: departures stay 1 ms apart."""
    _, delays = overloaded(line, Queue(limit=LARGE, aqm=Codel()), load=1.5, seconds=2)
    times = [time for time, _ in delays]
    busy_from = next(i for i, (_, delay) in enumerate(delays) if delay > 5 * MS)
    gaps = {b - a for a, b in zip(times[busy_from:], times[busy_from + 1 :], strict=False)}
    assert gaps == {MS}


def test_red_leaves_a_short_queue_alone_and_fills_none(line):
    queue = Queue(limit=QueueLimit(100_000, "bytes"), aqm=Red())
    calm, _ = overloaded(line, queue, load=0.9, seconds=2)
    assert calm.dropped("aqm") == 0
    busy, delays = overloaded(line, queue, load=1.05, seconds=10)
    assert busy.dropped("aqm") > 0
    assert busy.dropped("queue") == 0
    assert max(delay for _, delay in delays[len(delays) // 2 :]) < 40 * MS


def test_red_drops_with_the_probability_of_the_average_queue():
    """Half-way between the thresholds: half of 10 percent, evenly spread gaps included."""
    red = Red(minimum=10_000, maximum=30_000, probability=0.1, weight=1.0)
    discipline = RandomEarlyDetection(red, 100_000, random.Random(1))
    count = 20_000
    hits = sum(discipline.condemns_arrival(0, 20_000, 0) for _ in range(count))
    # With gaps drawn evenly from 1 to 1/p, their mean is (1/p + 1) / 2 (Floyd 1993, section 7).
    assert hits / count == pytest.approx(2 / (1 / 0.05 + 1), rel=0.1)
    assert not any(discipline.condemns_arrival(0, 9_000, 0) for _ in range(1000))
    assert all(discipline.condemns_arrival(0, 30_000, 0) for _ in range(1000))


def test_red_forgets_while_the_link_is_idle():
    red = Red(minimum=10_000, maximum=30_000, weight=0.01)
    discipline = RandomEarlyDetection(red, 100_000, random.Random(1))
    for _ in range(2000):
        discipline.condemns_arrival(0, 60_000, 0)
    assert discipline.condemns_arrival(0, 0, 0)
    assert not discipline.condemns_arrival(0, 0, 1000)


@pytest.mark.parametrize("aqm", [Codel(), Red(minimum=5000, maximum=15_000)])
def test_ecn_marks_instead_of_dropping(line, aqm):
    capable = ethernet(ipv4(tcp(payload=bytes(946)), tos=2))
    queue = Queue(limit=LARGE, aqm=aqm, ecn=True)
    busy, delays = overloaded(line, queue, load=1.2, seconds=3, frame=capable)
    assert busy.chain.tally.marked > 0
    assert busy.dropped("aqm") == 0
    assert len(delays) == int(3 * SECOND / int(MS / 1.2))


def test_ecn_drops_what_is_not_capable(line):
    plain = ethernet(ipv4(tcp(payload=bytes(946))))
    queue = Queue(limit=LARGE, aqm=Codel(), ecn=True)
    busy, _ = overloaded(line, queue, load=1.2, seconds=3, frame=plain)
    assert busy.chain.tally.marked == 0
    assert busy.dropped("aqm") > 0


def test_marked_frames_have_a_right_checksum(line):
    capable = ethernet(ipv4(tcp(payload=bytes(946)), tos=2))
    busy = line(Impairments(rate=RATE, queue=Queue(limit=LARGE, aqm=Codel(), ecn=True)))
    for number in range(2000):
        busy.send(capable, number * 800_000)
    seen = [frame for _, frame in busy.arrivals()]
    marks = [frame for frame in seen if frame[15] & 3 == 3]
    assert len(marks) == busy.chain.tally.marked > 0
    assert all(internet_checksum(frame[14:34]) == 0 for frame in marks)


def test_a_change_elsewhere_leaves_the_discipline_in_its_state(line):
    def drops(disturb: bool) -> int:
        queue = Queue(limit=LARGE, aqm=Codel())
        busy = line(Impairments(rate=RATE, queue=queue))
        for number in range(3000):
            if disturb and number % 100 == 50:
                busy.set(Impairments(rate=RATE, queue=queue, delay=number / 1e6), number * 800_000)
            busy.send(FRAME, number * 800_000)
        busy.arrivals()
        return busy.dropped("aqm")

    assert drops(True) == drops(False) > 0


@pytest.mark.parametrize(
    ("queue", "says"),
    [
        (Queue(aqm=KernelAqm(name="fq_codel")), "has no fq_codel"),
        (Queue(ecn=True), "queue.ecn: .*nothing to mark"),
        (Queue(aqm=Codel(target=0.2)), "target < interval"),
        (Queue(aqm=Red(minimum=5.0)), "go together"),
        (Queue(aqm=Red(minimum=5.0, maximum=5.0)), "minimum < maximum"),
        (Queue(aqm=Red(probability=0.0)), "queue.aqm.probability"),
        (Queue(aqm=Red(weight=2.0)), "queue.aqm.weight"),
    ],
)
def test_impossible_disciplines_are_refused(line, queue, says):
    with pytest.raises(ValueError, match=says):
        line(Impairments(rate=RATE, queue=queue))
