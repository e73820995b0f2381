"""What is told of all connections of a capture at once is what each of them tells alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.trace import Connection, Segment, SegmentClass, Trace
from testbed.trace.endings import End
from testbed.trace.handshake import read_handshake
from testbed.wire.flags import FIN, RST


def ending(connection: Connection) -> End:
    """How a connection ended, one segment after the other."""
    last_words = {
        one.flow: index for index, one in enumerate(connection.segments) if not one.flags & RST
    }
    goes_on = min(last_words.values()) if len(last_words) == 2 else -1
    finished = set()
    for index, segment in enumerate(connection.segments):
        if segment.flags & RST:
            if index > goes_on:
                return End.RST
        elif segment.flags & FIN:
            finished.add(segment.flow)
            if len(finished) == 2:
                return End.FIN
    return End.HALF_CLOSED if finished else End.OPEN


def bytes_once(segments: list[Segment], isn: int) -> int:
    """Bytes of payload as a set of positions; all lie within 2^31 of the first."""
    seen: set[int] = set()
    for one in segments:
        start = (one.seq - isn + 2**31) % 2**32 + (one.flags >> 1 & 1)
        if not one.flags & RST:
            seen.update(range(start, start + one.length))
    return len(seen)


def assert_told_alike(trace: Trace) -> None:
    summary = trace.summary
    places = {number: row for row, number in enumerate(trace.table.number.tolist())}
    classes = np.full(len(trace.table), 255, np.uint8)
    for index, connection in enumerate(trace.connections):
        copies = set()
        for side, direction in enumerate(connection.directions):
            counts = connection.analysis.counts(side)
            own = [one for one in direction.segments if one not in set(direction.copies)]
            copies.update(direction.copies)
            assert summary.segments[index, side] == len(direction.segments)
            assert summary.unique_bytes[index, side] == bytes_once(own, direction.isn)
            assert summary.retransmissions[index, side] == counts.get(
                SegmentClass.RETRANSMISSION, 0
            )
            assert summary.forwarded[index, side] == len(direction.forwarded)
            assert summary.repeated[index, side] == len(direction.repeated)
            assert summary.oversized[index, side] == len(direction.oversized)
        originals = [one for one in connection.segments if one not in copies]
        everything = read_handshake(originals, connection.outward)
        assert connection.handshake.ack is everything.ack
        assert summary.rtts[index] == connection.handshake_rtt == everything.rtt
        assert summary.ends[index] is connection.ended is ending(connection)
        for one, kind in zip(connection.segments, connection.analysis.classes, strict=True):
            classes[places[one.number]] = kind
    assert trace.classes.tolist() == classes.tolist()


SAYINGS = st.tuples(
    st.integers(0, 2),
    st.booleans(),
    st.sampled_from(["S", "SA", "A", "A", "PA", "FA", "R", "RA", "SF", ""]),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 3),
    st.sampled_from([0, 1, 9, 502]),
    st.sampled_from([None, (5, 6), (7, 5)]),
    st.sampled_from([None, None, 64, 63]),
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(SAYINGS, min_size=1, max_size=40), st.sampled_from([1, 40]))
def test_whatever_is_said(talk, read, sayings, step):
    talks = [talk(client=("10.0.0.1", 40_000 + number)) for number in range(3)]
    for index, saying in enumerate(sayings):
        who, outward, flags, seq, ack, size, window, stamps, again = saying
        say = talks[who].client if outward else talks[who].server
        say(index * step, flags, seq, ack, size, window=window, stamps=stamps, mss=2)
        if again is not None:
            talks[who].again(ttl=again)
    assert_told_alike(read(sorted(packet for one in talks for packet in one.packets)))


@pytest.mark.parametrize("seed", range(6))
def test_transfers_with_losses_copies_and_closed_windows(talk, read, seed):
    chance = random.Random(seed)
    packets = []
    for number in range(12):
        t = talk(client=("10.0.0.1", 40000 + number), client_isn=chance.randrange(2**32))
        t.handshake(at=number * 0.3)
        acked = 1
        for step in range(30):
            at = 20 + number * 0.3 + step * 5
            kind = chance.random() if number % 3 else 0.0
            seq = max(1, acked - 100) if kind > 0.9 else acked
            t.client(at, "A", seq, 1, 1 if kind > 0.97 else 100)
            acked = max(acked, seq + 100)
            if kind > 0.8:
                t.again()
            t.server(at + 1, "A", 1, acked, window=0 if 0.5 < kind < 0.55 else 502)
        packets += t.packets
    trace = read(sorted(packets))
    assert_told_alike(trace)
    assert len(np.unique(trace.classes)) > 4


def test_reordered_data_without_counters_is_told_by_the_round_trip(talk, read):
    """Neither identification nor time stamps tell, so the time has to, of each connection alone."""
    packets = []
    for number, late in enumerate([1, 90]):
        t = talk(client=("10.0.0.1", 40000 + number))
        t.handshake(number * 3000, rtt=50)
        for at, seq in ((100, 1), (101, 201), (101 + late, 101)):
            t.client(number * 3000 + at, "A", seq, 1, 100, identification=0)
        packets += t.packets
    trace = read(packets)
    assert_told_alike(trace)
    last = [int(one.analysis.classes[-1]) for one in trace.connections]
    assert last == [SegmentClass.REORDERED, SegmentClass.FILLS_HOLE]
