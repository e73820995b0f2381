"""Options of qdiscs as bytes; the layouts are written down here a second time, by hand."""

from __future__ import annotations

import struct

import pytest

from testbed.kernel.netlink import queue_qdiscs as queues
from testbed.kernel.netlink.netem_qdisc import INSTANT, BurstLoss, Netem, StateLoss
from testbed.kernel.netlink.socket import attribute, attributes

FULL = Netem(
    limit=1000,
    delay=50_000_000,
    jitter=5_000_000_000,
    jitter_correlation=1,
    loss=2,
    duplicate=3,
    duplicate_correlation=4,
    reorder=5,
    reorder_correlation=6,
    gap=7,
    corrupt=8,
    corrupt_correlation=9,
    rate=10,
    overhead=-11,
    seed=1 << 63,
)


@pytest.mark.parametrize(
    "asked",
    [
        Netem(limit=1),
        FULL,
        Netem(limit=1, loss_model=BurstLoss(p=1, r=2, h=3, k1=4)),
        Netem(limit=1, loss_model=StateLoss(p13=1, p31=2, p32=3, p14=4, p23=5)),
        Netem(limit=1, rate=INSTANT),
        Netem(limit=1, rate=0xFFFFFFFF),
    ],
    ids=["least", "full", "bursts", "states", "instant", "32 bits"],
)
def test_netem_comes_back_as_it_went(asked):
    assert Netem.decode(asked.encode()).tells_of(asked)


def test_netem_says_everything_every_time_so_that_a_change_leaves_nothing_behind():
    """What a change leaves out, the kernel keeps: correlations, reordering, corruption, rate."""
    data = Netem(limit=1).encode()
    assert set(attributes(data, 24)) >= {1, 3, 4, 6, 10, 11}


def test_netem_layout():
    data = FULL.encode()
    assert struct.unpack_from("=6I", data) == (0, 1000, 2, 7, 3, 0)
    given = attributes(data, 24)
    assert given[10] == struct.pack("=q", 50_000_000)
    assert given[11] == struct.pack("=q", 5_000_000_000)
    assert given[6] == struct.pack("=IiII", 10, -11, 0, 0)
    assert given[14] == struct.pack("=Q", 1 << 63)


def test_the_table_goes_out_and_is_not_expected_back():
    asked = Netem(limit=1, jitter=1, table=(-8192, 0, 8192))
    assert attributes(asked.encode(), 24)[2] == struct.pack("=3h", -8192, 0, 8192)
    assert Netem.decode(asked.encode()).tells_of(asked)


def test_a_difference_is_seen():
    asked = Netem(limit=1, delay=5)
    assert not Netem(limit=1, delay=6).tells_of(asked)
    assert not queues.Fifo(limit=1).tells_of(asked)
    assert not queues.Fifo(limit=5, counts_bytes=True).tells_of(queues.Fifo(limit=5))


def test_tbf_comes_back_with_its_burst_as_a_time():
    asked = queues.Tbf(rate=1_250_000, burst=3000, limit=50, overhead=24)
    ticks = round((3000 + 24) / 1_250_000 * 1e9 / 64)
    rate = struct.pack("=BBHhHI", 0, 1, 24, 0, 0, 1_250_000)
    told = attribute(1, rate + bytes(12) + struct.pack("=3I", 50, ticks, 0))
    assert queues.Tbf.decode(told).tells_of(asked)
    assert not queues.Tbf.decode(told).tells_of(
        queues.Tbf(rate=1_250_000, burst=3100, limit=50, overhead=24)
    )


def test_red_forgets_a_quarter_of_its_average_in_the_time_of_so_many_packets():
    """Weight 1/2: each packet time halves the average, so entries count packet times."""
    red = queues.RandomEarly(
        limit=9, minimum=3, maximum=6, probability=1, weight_log=1, packet_time=64.0, ecn=True
    )
    given = attributes(red.encode())
    cell_log, table = given[1][14], given[2]
    assert len(table) == 256
    steps_per_packet = 64 / (1 << cell_log)
    assert table[int(2 * steps_per_packet) + 1] == 2
    assert table[255] == 31 or (255 << cell_log) / 64 < 31
    assert queues.RandomEarly.decode(red.encode()).tells_of(red)


@pytest.mark.parametrize(
    "asked",
    [
        queues.FairControlledDelay(limit=100, ecn=True),
        queues.ProportionalIntegral(limit=100, ecn=False),
        queues.Cake(rate=1 << 40, overhead=-3),
    ],
    ids=lambda asked: asked.kind,
)
def test_disciplines_come_back_as_they_went(asked):
    assert type(asked).decode(asked.encode()).tells_of(asked)


def test_codel_keeps_times_in_units_of_its_own():
    asked = queues.ControlledDelay(limit=1, target=5000, interval=100_000, ecn=False)
    told = queues.ControlledDelay(limit=1, target=4999, interval=99_999, ecn=False)
    other = queues.ControlledDelay(limit=1, target=4990, interval=100_000, ecn=False)
    assert told.tells_of(asked)
    assert not other.tells_of(asked)
