"""Jitter and reordering under a virtual clock."""

from __future__ import annotations

import statistics

import pytest

from testbed.emulator.elements.jitter import TABLE_SIZE, normal_table, pareto_table
from testbed.topology.model import Impairments, Jitter, Reorder

MS = 1_000_000
SPREAD = 2.0  # ms


def delays(line, jitter: Jitter, count: int = 5000, gap: int = 100 * MS) -> list[float]:
    """Milliseconds by which frames deviate from a delay of 20 ms, in the order of sending."""
    varied = line(Impairments(delay=0.020, jitter=jitter))
    for number in range(count):
        varied.send(number.to_bytes(4, "big"), number * gap)
    arrived = {frame: time for time, frame in varied.arrivals()}
    return [
        (arrived[number.to_bytes(4, "big")] - number * gap) / MS - 20 for number in range(count)
    ]


def test_normal_jitter_has_its_spread(line):
    sample = delays(line, Jitter(spread=SPREAD / 1000))
    assert statistics.fmean(sample) == pytest.approx(0, abs=0.15)
    assert statistics.stdev(sample) == pytest.approx(SPREAD, rel=0.05)
    within = sum(abs(value) < SPREAD for value in sample) / len(sample)
    assert within == pytest.approx(0.683, abs=0.03)


def test_uniform_jitter_fills_its_range_evenly(line):
    sample = delays(line, Jitter(spread=SPREAD / 1000, distribution="uniform"))
    assert min(sample) >= -SPREAD
    assert max(sample) <= SPREAD
    quartiles = statistics.quantiles(sample, n=4)
    assert quartiles == pytest.approx([-SPREAD / 2, 0, SPREAD / 2], abs=0.12)


def test_pareto_jitter_has_a_long_tail_to_the_late_side_only(line):
    sample = delays(line, Jitter(spread=SPREAD / 1000, distribution="pareto"))
    assert min(sample) >= -0.58 * SPREAD
    assert max(sample) > 3 * SPREAD
    assert statistics.fmean(sample) == pytest.approx(-0.02 * SPREAD, abs=0.15)
    assert statistics.median(sample) < 0


def test_tables_are_quantiles():
    for table in (normal_table(), pareto_table()):
        assert len(table) == TABLE_SIZE
        assert list(table) == sorted(table)
        assert max(table) <= 4
    normal = normal_table()
    expected = statistics.NormalDist()
    for index in (0, 100, 2047, 2048, 4000, 4095):
        assert normal[index] == pytest.approx(expected.inv_cdf((index + 0.5) / 4096), abs=1e-6)


def test_correlated_jitter_changes_slowly(line):
    def autocorrelation(jitter: Jitter) -> float:
        sample = delays(line, jitter)
        return statistics.correlation(sample[:-1], sample[1:])

    uniform = Jitter(spread=SPREAD / 1000, distribution="uniform")
    assert abs(autocorrelation(uniform)) < 0.06
    correlated = Jitter(spread=SPREAD / 1000, distribution="uniform", correlation=0.7)
    assert autocorrelation(correlated) == pytest.approx(0.7, abs=0.06)


def test_jitter_keeps_order_unless_it_may_not(line):
    def arrival_order(reorder: bool) -> list[bytes]:
        jitter = Jitter(spread=0.005, reorder=reorder)
        varied = line(Impairments(delay=0.020, jitter=jitter))
        for number in range(500):
            varied.send(number.to_bytes(4, "big"), number * MS)
        return [frame for _, frame in varied.arrivals()]

    assert arrival_order(False) == sorted(arrival_order(False))
    shuffled = arrival_order(True)
    assert shuffled != sorted(shuffled)
    assert len(set(shuffled)) == 500


def test_no_jitter_makes_a_frame_arrive_before_it_was_sent(line):
    wild = line(Impairments(delay=0.001, jitter=Jitter(spread=0.010, reorder=True)))
    for number in range(1000):
        wild.send(b"x", number * MS)
    assert wild.arrivals()[0][0] >= 0
    sent_last = line(Impairments(delay=0.001, jitter=Jitter(spread=0.010, reorder=True)), seed=2)
    for _ in range(200):
        sent_last.send(b"x", 5 * MS)
    assert all(time >= 5 * MS for time, _ in sent_last.arrivals())


def test_reordered_frames_go_without_the_delay(line):
    shuffled = line(Impairments(delay=0.010, reorder=Reorder(probability=0.25)))
    count = 4000
    for number in range(count):
        shuffled.send(number.to_bytes(4, "big"), number * MS)
    arrived = {frame: time for time, frame in shuffled.arrivals()}
    took = [arrived[n.to_bytes(4, "big")] - n * MS for n in range(count)]
    assert set(took) == {0, 10 * MS}
    overtaking = took.count(0)
    assert shuffled.chain.tally.reordered == overtaking
    assert abs(overtaking - count / 4) < 5 * (count * 0.25 * 0.75) ** 0.5


def test_a_gap_makes_every_nth_frame_overtake(line):
    regular = line(Impairments(delay=0.010, reorder=Reorder(probability=1.0, gap=5)))
    for number in range(20):
        regular.send(bytes([number]), number * MS)
    early = [frame[0] for time, frame in regular.arrivals() if time == frame[0] * MS]
    assert early == [4, 9, 14, 19]


def test_a_frame_that_overtakes_is_woken_for_in_time_behind_a_queue(line):
    """VirtualLine checks that no frame is handed out later than it is due."""
    busy = line(Impairments(rate=8e6, delay=0.1, reorder=Reorder(probability=0.5)))
    for number in range(20):
        busy.send(bytes(1000), number)
    assert len(busy.arrivals()) == 20
