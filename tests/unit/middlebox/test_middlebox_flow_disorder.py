"""Every Nth packet of a flow overtaken or doubled, the others in order."""

from __future__ import annotations

import struct

import pytest
from box_bench import Bench, Seen
from packet_bench import IPV4_KEY, IPV6_KEY

from testbed.wire.craft import tcp_segment
from testbed.wire.flags import ACK, FIN
from testbed.wire.packet import INSIDE, OUTSIDE, reverse_key


@pytest.fixture(params=[IPV4_KEY, IPV6_KEY], ids=["ipv4", "ipv6"])
def key(request: pytest.FixtureRequest) -> bytes:
    return request.param


def box(**options: object) -> Bench:
    return Bench(("flow-disorder", {"every": 4, "behind": 2, **options}))


def put(bench: Bench, key: bytes, number: int, flags: int = ACK, size: int = 10) -> list[Seen]:
    data = tcp_segment(key, seq=number, ack=1, flags=flags, payload=bytes(size))
    return bench.put(OUTSIDE, data)


def order(bench: Bench, key: bytes, numbers: range) -> list[int]:
    return [seen.seq for number in numbers for seen in put(bench, key, number)]


def test_every_fourth_is_overtaken_by_two(key):
    assert order(box(), key, range(1, 12)) == [1, 2, 3, 5, 6, 4, 7, 9, 10, 8, 11]


def test_every_fourth_comes_twice(key):
    bench = box(action="duplicate")
    assert order(bench, key, range(1, 10)) == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9]
    assert bench.pipeline.counters().created == 2


def test_flows_and_directions_are_counted_alone(key):
    bench = box()
    other = key[:-4] + struct.pack("!HH", 41000, 80)
    for number in (1, 2, 3):
        assert len(put(bench, key, number)) == len(put(bench, other, number)) == 1
        back = tcp_segment(reverse_key(key), seq=number, ack=1, flags=ACK, payload=b"x")
        assert len(bench.put(INSIDE, back)) == 1
    assert put(bench, key, 4) == [] and put(bench, other, 4) == []


def test_what_carries_no_data_is_not_counted_but_overtakes(key):
    bench = box()
    for number in (1, 2, 3):
        put(bench, key, number)
        assert len(put(bench, key, number, size=0)) == 1
    assert put(bench, key, 4) == []
    assert [seen.seq for n in (5, 6, 7) for seen in put(bench, key, n, size=0)] == [5, 6, 4, 7]


def test_the_last_one_waits_for_nobody_longer_than_it_may(key):
    bench = box(delay=0.03)
    order(bench, key, range(1, 5))
    assert bench.wait(0.02) == []
    assert [seen.seq for seen in bench.wait(0.02)] == [4]
    assert bench.wait(10_000) == [] and len(bench.timers) == 0


def test_the_end_of_a_connection_overtakes_nobody(key):
    bench = box()
    order(bench, key, range(1, 5))
    assert [seen.seq for seen in put(bench, key, 5, flags=FIN | ACK)] == [4, 5]


def test_switching_off_lets_go(key):
    bench = box()
    order(bench, key, range(1, 5))
    bench.pipeline.switch("flow-disorder", False)
    assert order(bench, key, range(5, 20)) == [5, 6, 4, *range(7, 20)]
    bench.pipeline.switch("flow-disorder", True)
    bench.pipeline.set_options("flow-disorder", {"action": "none"})
    assert order(bench, key, range(20, 40)) == list(range(20, 40))


def test_datagrams_are_disordered_too():
    bench = box(every=1, action="duplicate")
    data = tcp_segment(IPV4_KEY, seq=1, flags=ACK)[:28]
    data[2:4], data[9] = struct.pack("!H", 28), 17
    data[24:28] = struct.pack("!HH", 8, 0)
    assert len(bench.put(OUTSIDE, data)) == 1  # empty
    data[2:4], data[24:26] = struct.pack("!H", 30), struct.pack("!H", 10)
    assert len(bench.put(OUTSIDE, data + b"ab")) == 2
