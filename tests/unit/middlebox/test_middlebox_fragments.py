"""Reassembly on the bench: datagrams go on whole or not at all, and everything is accounted for."""

from __future__ import annotations

import random
import struct
import tracemalloc
from typing import Any

import pytest
from box_bench import Bench, Seen
from packet_bench import word_sum

from testbed.errors import LabError
from testbed.wire.packet import INSIDE, OUTSIDE, Side

ADDRESSES4 = bytes((10, 0, 1, 1, 10, 0, 2, 2))
ADDRESSES6 = bytes.fromhex("20010db800010000000000000000000120010db8000200000000000000000002")
UDP = 17
TCP = 6

families = pytest.mark.parametrize("version", [4, 6])


def piece(
    version: int,
    offset: int,
    data: bytes,
    more: bool = True,
    *,
    number: int = 7,
    protocol: int = UDP,
    extension: bytes = b"",
) -> bytes:
    """A fragment. extension: a hop-by-hop header in front of IPv6's fragment header."""
    if version == 4:
        field = offset >> 3 | (0x2000 if more else 0)
        head = bytearray(
            struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), number, field, 63, protocol, 0)
            + ADDRESSES4
        )
        struct.pack_into("!H", head, 10, 0xFFFF - word_sum(bytes(head)))
        return bytes(head) + data
    header = struct.pack("!BBHI", protocol, 0, offset | more, number)
    body = extension + header + data
    first = 0 if extension else 44
    return struct.pack("!IHBB", 6 << 28, len(body), first, 63) + ADDRESSES6 + body


def pieces(version: int, count: int, size: int = 16, **fields: Any) -> list[bytes]:
    """A datagram in `count` fragments of `size` bytes of data."""
    return [
        piece(version, number * size, bytes([number]) * size, number < count - 1, **fields)
        for number in range(count)
    ]


def bench_with(**options: object) -> Bench:
    return Bench(("fragments", options))


def put_all(bench: Bench, data: list[bytes], side: Side = OUTSIDE) -> list[Seen]:
    return [seen for one in data for seen in bench.put(side, one)]


def held(bench: Bench) -> int:
    return bench.pipeline.functions["fragments"].gauges()["now-held"]


def counters(bench: Bench) -> dict[str, int]:
    return dict(bench.pipeline.functions["fragments"].counters)


def same(seen: list[Seen], sent: list[bytes]) -> bool:
    """Whether these are the packets sent, apart from the hop limit."""
    return [one.data[12:] for one in seen] == [one[12:] for one in sent]


@families
@pytest.mark.parametrize("side", [OUTSIDE, INSIDE])
def test_a_datagram_goes_on_in_order_when_its_last_fragment_has_come(version, side):
    bench = bench_with()
    sent = pieces(version, 5)
    assert put_all(bench, [sent[index] for index in (4, 0, 3, 1)], side) == []
    assert bench.pipeline.counters().held == 4
    seen = bench.put(side, sent[2])
    assert same(seen, sent) and {one.side for one in seen} == {side.other}
    assert counters(bench) == {"fragments": 5, "reassembled": 1}
    assert set(bench.pipeline.functions["fragments"].gauges().values()) == {0}
    assert bench.dropped == {} and len(bench.timers) <= 1
    assert bench.timers.timeout() is None


@families
def test_datagrams_are_told_apart_by_identification_and_side(version):
    bench = bench_with()
    first, second = pieces(version, 2, number=1), pieces(version, 2, number=2)
    assert put_all(bench, [first[0], second[1]]) == []
    assert bench.put(INSIDE, first[1]) == []
    assert same(bench.put(OUTSIDE, second[0]), second)
    assert same(bench.put(OUTSIDE, first[1]), first)


@families
def test_more_fragments_than_the_limit_are_dropped_all(version):
    bench = bench_with(limit=4)
    assert len(put_all(bench, pieces(version, 4, number=1))) == 4
    assert put_all(bench, pieces(version, 5, number=2)) == []
    assert bench.dropped == {"fragment-limit": 5}
    assert counters(bench)["datagrams-refused"] == 1
    assert counters(bench)["dropped-fragment-limit"] == 5


@families
def test_what_is_incomplete_after_the_timeout_is_dropped(version):
    bench = bench_with(reassembly_timeout=4.0)
    sent = pieces(version, 3)
    put_all(bench, sent[:2])
    assert bench.wait(3.9) == [] and held(bench) == 2
    bench.wait(0.2)
    assert bench.dropped == {"reassembly-timeout": 2} and held(bench) == 0
    assert counters(bench)["datagrams-timed-out"] == 1
    assert bench.put(OUTSIDE, sent[2]) == []  # too late


@families
@pytest.mark.parametrize(
    ("offset", "data", "more"),
    [
        (8, bytes(16), True),  # over the end of the first
        (0, bytes(24), True),  # over the first, longer
        (0, b"\xff" * 16, True),  # over the first, other bytes: another header
        (8, bytes(8), False),  # within the first
        (24, bytes(16), True),  # into the start of the one at 32
    ],
)
def test_an_overlap_drops_the_datagram_and_what_comes_of_it_later(version, offset, data, more):
    bench = bench_with()
    sent = pieces(version, 4)
    put_all(bench, [sent[0], sent[2]])
    assert bench.put(OUTSIDE, piece(version, offset, data, more)) == []
    assert bench.dropped == {"fragment-overlap": 3}
    assert put_all(bench, [sent[1], sent[3]]) == []
    assert bench.dropped == {"fragment-overlap": 5}
    bench.wait(4.1)  # forgotten: the number may be used again
    assert same(put_all(bench, sent), sent)


@families
def test_a_duplicate_is_dropped_and_does_no_harm(version):
    bench = bench_with(limit=3)
    sent = pieces(version, 3)
    seen = put_all(bench, [sent[0], sent[0], sent[2], sent[2], sent[0], sent[1]])
    assert same(seen, sent)
    assert bench.dropped == {"fragment-duplicate": 3}


@families
def test_a_first_fragment_without_its_whole_header_is_refused(version):
    bench = bench_with()
    assert bench.put(OUTSIDE, piece(version, 0, bytes(8), protocol=TCP)) == []
    assert bench.put(OUTSIDE, piece(version, 8, bytes(32), False, protocol=TCP)) == []
    assert bench.dropped == {"fragment-tiny": 2}
    with_options = bytes(12) + b"\x80" + bytes(11)  # 32 bytes of header, 24 of them here
    assert bench.put(OUTSIDE, piece(version, 0, with_options, protocol=TCP, number=8)) == []
    assert bench.dropped == {"fragment-tiny": 3}


def test_the_headers_of_ipv6_must_all_be_in_the_first_fragment():
    bench = bench_with()
    destination_options = bytes((UDP, 0, 1, 4, 0, 0, 0, 0))
    put_all(bench, [piece(6, 0, destination_options, protocol=60)])
    assert bench.dropped == {"fragment-tiny": 1}
    hop_by_hop = bytes((44, 0, 1, 4, 0, 0, 0, 0))
    sent = [
        piece(6, 0, destination_options + bytes(8), protocol=60, number=8, extension=hop_by_hop),
        piece(6, 16, bytes(3), False, protocol=60, number=8, extension=hop_by_hop),
    ]
    assert same(put_all(bench, sent), sent)


@families
def test_the_ping_of_death_is_refused(version):
    bench = bench_with(limit=8192)
    assert bench.put(OUTSIDE, piece(version, 65528, bytes(200), False)) == []
    assert bench.dropped == {"fragment-oversize": 1}
    most = 65535 - (20 if version == 4 else 0)
    offset = most // 8 * 8
    bench.put(OUTSIDE, piece(version, offset, bytes(most - offset), False, number=8))
    assert held(bench) == 1
    bench.put(OUTSIDE, piece(version, offset, bytes(most - offset + 1), False, number=9))
    assert bench.dropped == {"fragment-oversize": 2}


@families
@pytest.mark.parametrize(
    "sent",
    [
        [(0, 13, True)],  # no multiple of eight, and more to come
        [(8, 0, True)],
        [(16, 16, False), (32, 16, True)],  # beyond the last
        [(16, 16, False), (32, 16, False)],  # two last ones
        [(32, 16, True), (8, 16, False)],
    ],
)
def test_fragments_that_contradict_each_other_are_refused(version, sent):
    bench = bench_with()
    put_all(bench, [piece(version, offset, bytes(size), more) for offset, size, more in sent])
    assert bench.dropped == {"fragment-malformed": len(sent)}


@families
def test_memory_and_table_are_bounded_under_a_flood(version):
    bench = bench_with(datagram_limit=100, memory_limit=1 << 17)
    whole = pieces(version, 3)
    function = bench.pipeline.functions["fragments"]
    tracemalloc.start()
    try:
        for number in range(20_000):
            size = 1400 if number % 10 else 8
            bench.put(OUTSIDE, piece(version, 8, bytes(size), number=number & 0xFFFF))
            gauges = function.gauges()
            assert gauges["now-datagrams"] <= 100 and gauges["now-memory"] <= 1 << 17
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
    assert len(bench.timers) < 300
    assert bench.dropped["fragment-evicted"] + held(bench) == 20_000
    bench.wait(5)
    assert same(put_all(bench, whole), whole)


def test_whole_packets_and_a_disabled_function_hold_nothing():
    bench = bench_with()
    begun, other = pieces(4, 2, number=1), pieces(4, 2, number=2)
    bench.put(OUTSIDE, begun[0])
    bench.pipeline.switch("fragments", False)
    assert same(bench.put(OUTSIDE, other[0]), other[:1])
    assert same(bench.put(OUTSIDE, begun[1]), begun)  # what it had begun it completes
    bench.pipeline.switch("fragments", True)
    atomic = piece(6, 0, struct.pack("!HHHH", 1, 2, 8, 0), False)  # RFC 6946
    assert same(bench.put(OUTSIDE, atomic), [atomic])
    assert counters(bench) == {"fragments": 2, "reassembled": 1}


def test_options_are_checked_and_can_change_while_datagrams_are_held():
    for bad in ({"limit": 1}, {"limit": 9000}, {"reassembly_timeout": 0}, {"memory_limit": 10}):
        with pytest.raises(LabError, match="fragments"):
            bench_with(**bad)
    bench = bench_with()
    sent = pieces(4, 6)
    put_all(bench, sent[:4])
    bench.pipeline.set_options("fragments", {"limit": 4})
    assert put_all(bench, sent[4:]) == []
    assert bench.dropped == {"fragment-limit": 6}


@pytest.mark.parametrize("seed", range(30))
def test_no_mixture_of_fragments_does_harm(seed):
    rng = random.Random(seed)
    bench = bench_with(limit=6, datagram_limit=8)
    queue = [one for v in (4, 6) for n in range(100, 104) for one in pieces(v, 4, number=n)]
    for _ in range(1500):
        size = rng.choice([0, 3, 8, 16, 24, 1000])
        offset = rng.choice([0, 8, 16, 24, 32, 48, 65528])
        version, number = rng.choice([4, 6]), rng.randrange(6)
        more, protocol = rng.random() < 0.7, rng.choice([UDP, TCP, 1, 58, 60, 51, 0])
        data = bytearray(
            piece(version, offset, rng.randbytes(size), more, number=number, protocol=protocol)
        )
        if rng.random() < 0.2:
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.1:
            del data[rng.randrange(1, len(data)) :]
        queue.append(bytes(data))
    rng.shuffle(queue)
    for data in queue:
        bench.pipeline.receive(rng.choice([OUTSIDE, INSIDE]), bytearray(data), len(data))
        bench.sent.clear()
        assert bench.pipeline.counters().missing == 0
        if rng.random() < 0.01:
            bench.wait(rng.choice([0.5, 5.0]))
        gauges = bench.pipeline.functions["fragments"].gauges()
        assert gauges["now-datagrams"] <= 8 and gauges["now-held"] <= 8 * 6
    bench.wait(10)
    assert set(bench.pipeline.functions["fragments"].gauges().values()) == {0}
    assert bench.pipeline.counters().held == 0 and bench.timers.timeout() is None
