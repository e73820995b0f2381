"""Segments as columns: what the table holds is what the segments say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.trace.ranges import Unwrapper
from testbed.trace.table import OptionBit, unwrapped


@pytest.fixture
def two(read, talk):
    """A trace of two connections that take turns."""
    one, other = talk(), talk(client=("10.0.0.2", 50000), client_isn=2**32 - 50)
    one.handshake(0)
    other.handshake(0.5)
    one.client(20, "PA", 1, 1, 100, stamps=(7, 8))
    other.client(21, "A", 1, 1, 100)
    one.server(22, "FA", 1, 101)
    return read([*one.packets, *other.packets])


def test_a_row_holds_what_its_segment_says(two):
    table = two.table
    assert table.number.tolist() == [one.number for one in two.segments]
    assert table.time.tolist() == [one.time for one in two.segments]
    assert table.seq.tolist() == [one.seq for one in two.segments]
    assert table.length.tolist() == [one.length for one in two.segments]
    assert table.captured.tolist() == [one.captured for one in two.segments]
    assert table.ip_id.tolist() == [one.ip_identification for one in two.segments]
    assert table.connection.tolist() == [1, 2, 1, 2, 1, 2, 1, 2, 1]
    row = int(np.flatnonzero(table.options & OptionBit.TIMESTAMPS)[0])
    assert (table.ts_value[row], table.ts_echo[row], table.length[row]) == (7, 8, 100)
    syns = table.take(table.options & OptionBit.MSS != 0)
    assert syns.mss.tolist() == [1460] * 4


def test_parts_of_a_table_are_those_of_the_connections(two):
    for connection in two.connections:
        part = two.table.of(connection.number)
        assert part.number.tolist() == connection.table.number.tolist()
        assert part.outward.tolist() == [connection.is_outward(s) for s in connection.segments]
        assert part.span.tolist() == [one.span for one in connection.segments]
    assert len(two.table.of(0)) == len(two.table.of(3)) == 0
    assert two.table.take(slice(2, 4)).number.tolist() == [3, 4]


def test_a_segment_takes_at_most_100_bytes(two):
    row = sum(getattr(two.table, name).itemsize for name in vars(two.table) if name != "sack_edges")
    assert row <= 100


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**32 - 1), max_size=20))
def test_numbers_unwrap_as_one_at_a_time(origin, numbers):
    unwrapper = Unwrapper(origin)
    expected = [unwrapper.position(number) for number in numbers]
    assert unwrapped(np.array(numbers, "u4"), origin).tolist() == expected


def test_more_than_four_gib_are_counted_on():
    positions = np.arange(0, 5 << 32, 1 << 30, dtype=np.int64)
    origin = 0xFFFF_FF00
    numbers = (positions + origin).astype("u4")
    assert unwrapped(numbers, origin).tolist() == positions.tolist()
