"""The elements under a virtual clock: exact times, exact queues, statistics as statistics."""

from __future__ import annotations

import math
from typing import Any

import pytest

from testbed.emulator.counters import LatenessHistogram
from testbed.emulator.elements.departures import Departures
from testbed.emulator.elements.element import NEVER, seeded
from testbed.topology.model import Impairments, Queue, QueueLimit

MS = 1_000_000
SECOND = 1_000_000_000


def limited(amount: float, unit: Any) -> Queue:
    return Queue(limit=QueueLimit(amount, unit))


def frames(count: int, size: int = 1000) -> list[bytes]:
    return [number.to_bytes(4, "big").ljust(size, b".") for number in range(count)]


def test_without_impairments_frames_pass_at_once(line):
    plain = line(Impairments())
    plain.send(b"frame", 5)
    assert plain.arrivals() == [(5, b"frame")]


def test_delay_moves_every_frame_by_the_same_time(line):
    delayed = line(Impairments(delay=0.020))
    for number, frame in enumerate(frames(10)):
        delayed.send(frame, number * MS)
    assert delayed.arrivals() == [
        (number * MS + 20 * MS, frame) for number, frame in enumerate(frames(10))
    ]


def test_rate_spaces_frames_by_their_serialisation_time(line):
    slow = line(Impairments(rate=8_000_000))  # 1 byte/us
    for frame in frames(5):
        slow.send(frame, 0)
    assert [time for time, _ in slow.arrivals()] == [MS, 2 * MS, 3 * MS, 4 * MS, 5 * MS]


def test_rate_counts_bytes_and_not_frames(line):
    slow = line(Impairments(rate=8_000_000))
    slow.send(b"x" * 250, 0)
    slow.send(b"x" * 1000, 0)
    slow.send(b"x" * 60, 0)
    assert [time for time, _ in slow.arrivals()] == [250_000, 1_250_000, 1_310_000]


def test_an_idle_transmitter_saves_up_nothing(line):
    slow = line(Impairments(rate=8_000_000))
    slow.send(b"x" * 1000, 0)
    slow.send(b"x" * 1000, 10 * MS)
    slow.send(b"x" * 1000, 10 * MS)
    assert [time for time, _ in slow.arrivals()] == [MS, 11 * MS, 12 * MS]


def test_a_late_wake_up_changes_no_departure(line):
    """Times come from the virtual transmitter, not from when the process got round to it."""
    slow = line(Impairments(rate=8_000_000, delay=0.010))
    for frame in frames(4):
        slow.send(frame, 0)
    slow.chain.advance(50 * MS)
    assert [time for time, _ in slow.arrivals()] == [11 * MS, 12 * MS, 13 * MS, 14 * MS]


def test_propagation_follows_the_queue(line):
    both = line(Impairments(rate=8_000_000, delay=0.100))
    for frame in frames(3):
        both.send(frame, 0)
    assert [time for time, _ in both.arrivals()] == [101 * MS, 102 * MS, 103 * MS]


@pytest.mark.parametrize(
    ("queue", "round_trip", "admitted"),
    [
        (limited(3, "packets"), 0, 3),
        (limited(3500, "bytes"), 0, 3),
        (limited(4000, "bytes"), 0, 4),
        (limited(0.005, "seconds"), 0, 5),
        (limited(2, "bdp"), 0.003, 6),
    ],
)
def test_queue_limit_counts_what_waits_and_not_what_is_being_sent(
    line, queue, round_trip, admitted
):
    slow = line(Impairments(rate=8_000_000, delay=0.5, queue=queue), round_trip)
    for frame in frames(20):
        slow.send(frame, 0)
    arrived = slow.arrivals()
    assert [frame for _, frame in arrived] == frames(1 + admitted)
    assert slow.dropped("queue") == 20 - len(arrived)
    assert slow.chain.tally.queue_high_water == admitted


def test_packets_in_flight_do_not_fill_the_queue(line):
    """10 Mbit/s, 100 ms: far more than 20 packets are under way, the queue of 20 stays empty."""
    long = line(Impairments(rate=10_000_000, delay=0.1, queue=limited(20, "packets")))
    gap = 1000 * 8 * SECOND // 10_000_000
    for number, frame in enumerate(frames(500)):
        long.send(frame, number * gap)
    assert len(long.arrivals()) == 500
    assert long.chain.tally.queue_high_water == 0


def test_a_queue_that_has_drained_admits_again(line):
    slow = line(Impairments(rate=8_000_000, queue=limited(1, "packets")))
    sent_at = [0, 0, 0, 1 * MS, 1 * MS]
    for time, frame in zip(sent_at, frames(5), strict=True):
        slow.send(frame, time)
    arrived = [int.from_bytes(frame[:4], "big") for _, frame in slow.arrivals()]
    assert arrived == [0, 1, 3]
    assert slow.dropped("queue") == 2


def test_a_changed_delay_leaves_frames_under_way_alone(line):
    changing = line(Impairments(delay=0.100))
    changing.send(b"before", 0)
    changing.set(Impairments(delay=0.200), 10 * MS)
    changing.send(b"after", 10 * MS)
    assert changing.arrivals() == [(100 * MS, b"before"), (210 * MS, b"after")]


@pytest.mark.parametrize("shorter", [0.010, 0.0])
def test_frames_after_a_change_of_delay_do_not_wait_for_those_before(line, shorter):
    changing = line(Impairments(delay=0.100))
    changing.send(b"before", 0)
    changing.set(Impairments(delay=shorter), 10 * MS)
    changing.send(b"after", 10 * MS)
    assert changing.arrivals() == [((10 + shorter * 1000) * MS, b"after"), (100 * MS, b"before")]


def test_lifting_the_rate_keeps_frames_in_order(line):
    """The frame in the transmitter goes out first, at the old rate, whoever comes meanwhile."""
    changing = line(Impairments(rate=8_000))
    for frame in frames(3):
        changing.send(frame, 0)
    changing.set(Impairments(loss=0.0), 10 * MS)
    changing.send(b"after", 20 * MS)
    assert changing.arrivals() == [(1000 * MS, frame) for frame in [*frames(3), b"after"]]


def test_a_changed_rate_holds_for_what_still_waits(line):
    changing = line(Impairments(rate=8_000_000))
    for frame in frames(4):
        changing.send(frame, 0)
    changing.set(Impairments(rate=80_000_000), 1 * MS + 500_000)
    # The second frame is in the transmitter, at the old rate; the others wait.
    assert [time for time, _ in changing.arrivals()] == [MS, 2 * MS, 2_100_000, 2_200_000]


def test_an_unlimited_rate_empties_the_queue(line):
    changing = line(Impairments(rate=8_000))
    for frame in frames(3):
        changing.send(frame, 0)
    changing.set(Impairments(), 2 * MS)
    assert [frame for _, frame in changing.arrivals(1000 * MS)] == frames(3)


def test_changing_the_delay_leaves_the_queue_alone(line):
    changing = line(Impairments(rate=8_000_000))
    for frame in frames(3):
        changing.send(frame, 0)
    changing.set(Impairments(rate=8_000_000, delay=0.010), 500_000)
    # The first is in the transmitter already, and on the path without delay.
    assert [time for time, _ in changing.arrivals()] == [MS, 12 * MS, 13 * MS]


def test_loss_has_its_probability(line):
    lossy = line(Impairments(loss=0.05))
    count = 20_000
    for number in range(count):
        lossy.send(b"x", number)
    lost = lossy.dropped("loss")
    assert lost + len(lossy.arrivals()) == count
    deviation = math.sqrt(count * 0.05 * 0.95)
    assert abs(lost - count * 0.05) < 5 * deviation


def test_losses_are_independent(line):
    """Runs of losses are geometric: their mean length is 1 / (1 - p)."""
    lossy = line(Impairments(loss=0.3))
    count = 20_000
    for number, frame in enumerate(frames(count, 8)):
        lossy.send(frame, number)
    arrived = {int.from_bytes(frame[:4], "big") for _, frame in lossy.arrivals()}
    lost = [number not in arrived for number in range(count)]
    runs = sum(a and not b for a, b in zip(lost, [*lost[1:], False], strict=True))
    assert sum(lost) / runs == pytest.approx(1 / 0.7, rel=0.05)


def pattern(line, seed: int, loss: float = 0.1) -> list[bytes]:
    lossy = line(Impairments(loss=loss), seed=seed)
    for number, frame in enumerate(frames(2000, 8)):
        lossy.send(frame, number)
    return [frame for _, frame in lossy.arrivals()]


def test_the_same_seed_loses_the_same_frames(line):
    assert pattern(line, 7) == pattern(line, 7)
    assert pattern(line, 7) != pattern(line, 8)


def test_the_two_directions_lose_different_frames():
    streams = {seeded(1, "a", side, "loss").random() for side in ("forward", "reverse")}
    streams.add(seeded(1, "b", "forward", "loss").random())
    assert len(streams) == 3


def test_the_sequence_of_losses_is_fixed_for_all_time():
    """A recorded seed must mean the same next year: these are the values of today."""
    generator = seeded(42, "a:eth0-b:eth0", "forward", "loss")
    assert [round(generator.random(), 6) for _ in range(3)] == [0.131931, 0.581745, 0.548759]


def test_changing_the_delay_does_not_disturb_the_sequence_of_losses(line):
    changing = line(Impairments(loss=0.1), seed=7)
    for number, frame in enumerate(frames(2000, 8)):
        if number == 1000:
            changing.set(Impairments(loss=0.1, delay=0.001), number)
        changing.send(frame, number)
    assert [frame for _, frame in changing.arrivals()] == pattern(line, 7)


def test_a_shorter_delay_is_noticed_by_what_still_waits(line):
    changing = line(Impairments(rate=8_000_000, delay=0.100))
    for frame in frames(200):
        changing.send(frame, 0)
    changing.set(Impairments(rate=8_000_000, delay=0.001), 10_500_000)
    assert changing.arrivals()[-1] == (201 * MS, frames(200)[-1])


def test_a_cut_drops_what_comes_and_delivers_what_is_under_way(line):
    cable = line(Impairments(delay=0.010))
    cable.send(b"before", 0)
    cable.chain.cut(True)
    cable.send(b"during", 1 * MS)
    cable.chain.cut(False)
    cable.send(b"after", 2 * MS)
    assert [frame for _, frame in cable.arrivals()] == [b"before", b"after"]
    assert cable.dropped("cut") == 1


def test_a_cut_outlives_a_change_of_impairments(line):
    cable = line(Impairments())
    cable.chain.cut(True)
    cable.set(Impairments(delay=0.001), 0)
    cable.send(b"x", 1)
    assert cable.arrivals() == []


def test_what_is_in_force_is_read_from_the_elements(line):
    asked = Impairments(rate=5e6, delay=0.0125, loss=0.02, queue=limited(7, "packets"))
    assert line(asked).chain.in_force == asked
    changed = line(asked)
    changed.set(Impairments(delay=0.003), 0)
    assert changed.chain.in_force == Impairments(delay=0.003)


@pytest.mark.parametrize(
    "impossible",
    [
        {"rate": 0},
        {"rate": 1e-300},
        {"rate": -1},
        {"rate": math.nan},
        {"delay": -0.001},
        {"delay": math.inf},
        {"delay": math.nan},
        {"loss": 1.5},
        {"loss": -0.1},
        {"loss": math.nan},
        {"queue": limited(-1, "packets")},
        {"queue": limited(math.nan, "bytes")},
    ],
)
def test_impossible_impairments_are_refused_and_change_nothing(line, impossible):
    steady = line(Impairments(delay=0.001, loss=0.5))
    with pytest.raises(ValueError, match="expected"):
        steady.set(Impairments(**impossible), 0)
    assert steady.chain.in_force == Impairments(delay=0.001, loss=0.5)


def test_everything_is_accounted_for(line):
    busy = line(Impairments(rate=8_000_000, loss=0.2, delay=0.005, queue=limited(5, "packets")))
    for number, frame in enumerate(frames(100)):
        busy.chain.tally.packets_in += 1
        busy.send(frame, number * 400_000)
    counted = busy.chain.counters(100 * 400_000)
    assert counted.waiting > 0
    assert counted.in_flight > 0
    assert counted.packets_in == counted.waiting + counted.in_flight + sum(counted.dropped.values())


def test_departures_keep_the_order_of_due_times():
    departures = Departures()
    for due, frame in [(10, b"a"), (30, b"b"), (20, b"c"), (20, b"d"), (30, b"e"), (5, b"f")]:
        departures.push(frame, due)
    assert len(departures) == 6
    assert departures.next_due == 5
    assert departures.pop_due(4, 10) == []
    assert departures.pop_due(10, 10) == [(5, b"f"), (10, b"a")]
    assert departures.pop_due(30, 3) == [(20, b"c"), (20, b"d"), (30, b"b")]
    assert departures.next_due == 30
    assert departures.pop_due(30, 10) == [(30, b"e")]
    assert departures.next_due == NEVER
    assert len(departures) == 0


def test_lateness_percentiles_match_the_sample():
    histogram = LatenessHistogram()
    for microseconds in range(1000):
        histogram.record([microseconds * 1000])
    summary = histogram.summary()
    assert summary.packets == 1000
    assert summary.p50 == pytest.approx(500e-6, abs=5e-6)
    assert summary.p90 == pytest.approx(900e-6, abs=5e-6)
    assert summary.p99 == pytest.approx(990e-6, abs=5e-6)
    assert summary.maximum == 999e-6


def test_lateness_of_seconds_keeps_its_magnitude():
    histogram = LatenessHistogram()
    for late in (9 * MS, 3000 * MS, 3000 * MS):
        histogram.record([late])
    assert histogram.summary().p50 == pytest.approx(3, rel=0.5)
    assert histogram.summary().maximum == 3
