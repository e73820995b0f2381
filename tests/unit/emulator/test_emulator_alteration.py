"""Frames that come twice or with a flipped bit."""

from __future__ import annotations

from itertools import pairwise

import pytest
from emulator_frames import ethernet, ipv4, ipv6, segment, tcp

from testbed.topology.model import Chance, Corrupt, Impairments


def test_duplicates_follow_their_original(line):
    twice = line(Impairments(duplicate=Chance(probability=1.0), delay=0.001))
    twice.send(b"a", 0)
    twice.send(b"b", 5)
    assert [frame for _, frame in twice.arrivals()] == [b"a", b"a", b"b", b"b"]
    assert twice.chain.tally.duplicated == 2


def test_duplicates_have_their_probability(line):
    some = line(Impairments(duplicate=Chance(probability=0.1)))
    count = 10_000
    for number in range(count):
        some.send(b"x", number)
    extra = len(some.arrivals()) - count
    assert abs(extra - count * 0.1) < 5 * (count * 0.09) ** 0.5


def test_each_copy_of_a_duplicate_may_be_lost_alone(line):
    lossy = line(Impairments(duplicate=Chance(probability=1.0), loss=0.5))
    for number in range(1000):
        lossy.send(number.to_bytes(4, "big"), number)
    arrived = [frame for _, frame in lossy.arrivals()]
    once = sum(arrived.count(frame) == 1 for frame in set(arrived))
    assert 400 < once < 600


def test_correlation_bunches_events_together(line):
    """As in netem, at the price of their number: events follow each other much more often."""

    def follow_ups(correlation: float) -> float:
        some = line(Impairments(duplicate=Chance(probability=0.4, correlation=correlation)))
        twice = []
        for number in range(10_000):
            before = some.chain.tally.duplicated
            some.send(b"x", number)
            twice.append(some.chain.tally.duplicated > before)
        after_one = [later for earlier, later in pairwise(twice) if earlier]
        return sum(after_one) / len(after_one)

    assert follow_ups(0.0) == pytest.approx(0.4, abs=0.04)
    assert follow_ups(0.9) > 0.55


def differing_bits(a: bytes, b: bytes) -> list[int]:
    """Byte offsets of all bits that differ."""
    return [
        i for i, (x, y) in enumerate(zip(a, b, strict=True)) for _ in range((x ^ y).bit_count())
    ]


@pytest.mark.parametrize(
    ("where", "low", "high"), [("any", 0, 94), ("header", 14, 54), ("payload", 54, 94)]
)
def test_corruption_flips_one_bit_where_it_is_asked_to(line, where, low, high):
    frame = segment(payload=bytes(40))
    broken = line(Impairments(corrupt=Corrupt(probability=1.0, where=where)))
    for number in range(2000):
        broken.send(frame, number)
    hit = set()
    for _, arrived in broken.arrivals():
        bits = differing_bits(frame, arrived)
        assert len(bits) == 1
        hit.update(bits)
    assert hit == set(range(low, high))
    assert broken.chain.tally.corrupted == 2000


def test_corruption_has_its_probability(line):
    broken = line(Impairments(corrupt=Corrupt(probability=0.05)))
    count = 10_000
    for number in range(count):
        broken.send(bytes(64), number)
    changed = sum(frame != bytes(64) for _, frame in broken.arrivals())
    assert abs(changed - count * 0.05) < 5 * (count * 0.05 * 0.95) ** 0.5


@pytest.mark.parametrize(
    ("where", "frame"),
    [
        ("payload", ethernet(ipv4(tcp()))),
        ("payload", ethernet(ipv6(tcp()))),
        ("payload", b"no IP at all"),
        ("header", b"no IP at all"),
        ("any", b""),
    ],
)
def test_a_frame_without_that_part_passes_as_it_is(line, where, frame):
    broken = line(Impairments(corrupt=Corrupt(probability=1.0, where=where)))
    broken.send(frame, 0)
    assert [arrived for _, arrived in broken.arrivals()] == [frame]
    assert broken.chain.tally.corrupted == 0
