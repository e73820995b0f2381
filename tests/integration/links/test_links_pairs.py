"""Two impairments at once: what each packet comes to, held to arithmetic, under each emulator."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from links_helpers import within_chance

from testbed.topology.model import Chance, Corrupt, Jitter, Queue, QueueLimit, Reorder

COUNT = 1500
CHANCE = 0.3
DELAY = {"delay": 0.1}
WIDE = Queue(limit=QueueLimit(100_000, "packets"))
IMPAIRMENTS = {
    "loss": {"loss": CHANCE},
    "duplicate": {"duplicate": Chance(probability=CHANCE)},
    "corrupt": {"corrupt": Corrupt(probability=CHANCE)},
    "reorder": DELAY | {"reorder": Reorder(probability=CHANCE)},
    "jitter": DELAY | {"jitter": Jitter(spread=0.01)},
    "rate": {"rate": 10e6, "queue": WIDE},
}


def shares(pair: tuple[str, str], emulator: str) -> dict[int, float]:
    """How likely a packet is to arrive whole so many times.

    Under netem a packet that is lost and duplicated arrives once; its other copies, and all of the
    userspace emulator's, are lost each by itself (docs/concepts.md).
    """
    lost, twice, broken = (CHANCE * (name in pair) for name in ("loss", "duplicate", "corrupt"))
    whole = 1 - broken
    arrives = (1 - lost) * whole
    first = whole if emulator == "netem" else arrives
    both = twice * (1 - lost) if emulator == "netem" else twice
    found = {
        2: both * first * arrives,
        1: both * (first * (1 - arrives) + (1 - first) * arrives) + (1 - twice) * arrives,
    }
    if emulator == "netem":
        found[1] += twice * lost * whole
    return found


@pytest.mark.parametrize("pair", list(combinations(IMPAIRMENTS, 2)), ids="+".join)
def test_two_impairments_at_once(wire, emulator, pair):
    first, second = (IMPAIRMENTS[name] for name in pair)
    wire.set(**first | second)
    before = wire.counters
    wire.send(COUNT)
    arrived = wire.receive_all()
    times = Counter(Counter(one.number for one in arrived).values())
    for copies, share in shares(pair, emulator).items():
        assert within_chance(times[copies], COUNT, share), (copies, times, share)
    now = wire.counters
    entered = now.packets_in + now.duplicated - before.packets_in - before.duplicated
    dropped = sum(now.dropped.values()) - sum(before.dropped.values())
    assert entered == now.packets_out - before.packets_out + dropped
    if "reorder" in pair:
        overtook = now.reordered - before.reordered
        assert within_chance(overtook, now.packets_out - before.packets_out, CHANCE)
    elif "jitter" in pair:
        numbers = [one.number for one in arrived]
        assert numbers == sorted(numbers)
