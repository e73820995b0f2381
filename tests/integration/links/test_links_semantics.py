"""What a link does, whichever emulator makes it.

Delays are compared with those of the same path without impairments, rates taken over hundreds of
frames, and what chance decides is held against binomial bounds of five standard deviations.
"""

from __future__ import annotations

import math
import socket
import statistics
import threading
import time
from itertools import groupby, pairwise

import pytest
from links_helpers import UDP_OVER_ETHERNET, within_chance

from testbed.errors import LabError, TestbedError
from testbed.topology.model import (
    Chance,
    Codel,
    Corrupt,
    FourState,
    GilbertElliott,
    Jitter,
    Queue,
    QueueLimit,
    Red,
    Reorder,
    ScheduledChange,
)


def packets(count: int) -> Queue:
    return Queue(limit=QueueLimit(count, "packets"))


@pytest.mark.parametrize("delay", [0.005, 0.030])
def test_a_delay_is_added_to_what_the_path_takes_anyway(wire, plain, delay):
    wire.set(delay=delay)
    taken = wire.delays()
    assert min(taken) >= delay
    assert statistics.median(taken) == pytest.approx(delay, abs=3 * plain + 0.001)


def test_each_direction_has_its_own_delay(wire):
    wire.link.set(toward="a", delay=0.050)
    there = statistics.median(wire.delays(9))
    began = time.monotonic()
    wire.lab["a"].ping("b")
    assert there < 0.040 < 0.050 <= time.monotonic() - began


@pytest.mark.parametrize("rate", [1e6, 10e6, 40e6])
def test_a_rate_is_that_of_whole_frames(wire, rate):
    size = 1400
    count = max(40, int(rate * 0.2 / (8 * (size + UDP_OVER_ETHERNET))))
    wire.set(rate=rate, queue=packets(10_000))
    measured = statistics.median(measure_rate(wire, count, size) for _ in range(3))
    assert measured == pytest.approx(rate, rel=0.03)


def measure_rate(wire, count: int, size: int, overhead: int = 0) -> float:
    """Bit/s of whole frames, at the far end."""
    wire.send(count, size)
    arrivals = [wire.receive()[1] for _ in range(count)]
    bits = 8 * (size + UDP_OVER_ETHERNET + overhead)
    return (count - 1) * bits / ((arrivals[-1] - arrivals[0]) / 1e9)


def test_a_frame_takes_its_time_at_the_rate_even_when_none_waits(wire, plain):
    rate, size = 400e3, 1000
    alone = 8 * (size + UDP_OVER_ETHERNET) / rate
    wire.set(rate=rate)
    taken = []
    for _ in range(7):
        time.sleep(3 * alone)  # whatever a limiter may save up, it has
        taken += wire.delays(1, size)
    assert statistics.median(taken) == pytest.approx(alone, abs=3 * plain + 0.001)


def test_overhead_takes_time_at_the_rate(wire):
    wire.set(rate=1e6, overhead=100, queue=packets(1000))
    measured = statistics.median(measure_rate(wire, 60, 100, overhead=100) for _ in range(3))
    assert measured == pytest.approx(1e6, rel=0.03)


@pytest.mark.parametrize(
    ("limit", "room"),
    [(QueueLimit(20, "packets"), 20), (QueueLimit(20 * 1442, "bytes"), 20)],
    ids=["packets", "bytes"],
)
@pytest.mark.parametrize("delay", [0.0, 0.050])
def test_the_limit_counts_what_waits_and_never_what_is_under_way(wire, limit, room, delay):
    rate, size = 4e6, 1400
    wire.set(rate=rate, delay=delay, queue=Queue(limit=limit))
    before = wire.counters
    meanwhile = wire.send(60, size) * rate / 8 / (size + UDP_OVER_ETHERNET)
    arrived = wire.receive_all()
    now = wire.counters
    # One is being transmitted while the others wait.
    assert room - 1 <= len(arrived) <= room + 3 + meanwhile
    assert now.dropped["queue"] - before.dropped["queue"] == 60 - len(arrived)


def test_a_short_queue_holds_the_full_rate_over_a_long_path(wire):
    """A paced sender keeps many more packets under way, here 85, than may wait."""
    rate, size, count = 10e6, 1400, 600
    gap = 8 * (size + UDP_OVER_ETHERNET) / rate
    wire.set(rate=rate, delay=0.100, queue=packets(20))
    due = began = time.monotonic()
    for number in range(count):
        while (now := time.monotonic()) < due:
            pass
        due = now + gap  # what the machine holds up makes no burst
        wire.send(1, size, number)
    offered = count / (time.monotonic() - began)
    arrived = wire.receive_all()
    carried = (len(arrived) - 1) * 1e9 / (arrived[-1].received - arrived[0].received)
    assert len(arrived) > 0.95 * count
    assert carried == pytest.approx(offered, rel=0.06)


def test_a_full_queue_delays_by_its_limit(wire, plain):
    rate, size, limit = 10e6, 1400, 50
    per_packet = 8 * (size + UDP_OVER_ETHERNET) / rate
    wire.set(rate=rate, queue=packets(limit))
    wire.send(limit + 60, size)
    longest = max(one.delay for one in wire.receive_all())
    assert longest == pytest.approx((limit + 1) * per_packet, rel=0.05, abs=3 * plain)


def test_tcp_fills_a_queue(wire):
    """Nothing in the middle may throttle the sender before the queue does."""
    wire.set(rate=8e6, queue=packets(60))
    listener = wire.lab["b"].listen(6000)
    client = wire.lab["a"].socket()
    client.connect((wire.lab["b"].address, 6000))
    server, _ = listener.accept()
    deepest = [0]

    def swallow() -> None:
        while server.recv(1 << 16):
            deepest[0] = max(deepest[0], wire.counters.waiting)

    reader = threading.Thread(target=swallow)
    reader.start()
    client.sendall(bytes(1_000_000))
    client.shutdown(socket.SHUT_WR)
    reader.join()
    for sock in (client, server, listener):
        sock.close()
    assert deepest[0] >= 30


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_loss_is_independent_and_as_often_as_asked(wire, probability):
    count = 1500
    wire.set(loss=probability)
    before = wire.counters
    wire.send(count)
    arrived = {one.number for one in wire.receive_all()}
    lost = [number not in arrived for number in range(count)]
    assert within_chance(sum(lost), count, probability)
    assert wire.counters.dropped["loss"] - before.dropped["loss"] == sum(lost)
    after_loss = [second for first, second in pairwise(lost) if first]
    assert within_chance(sum(after_loss), len(after_loss), probability)


def runs(lost: list[bool]) -> list[int]:
    return [len(list(group)) for is_lost, group in groupby(lost) if is_lost]


def test_gilbert_elliott_loses_in_bursts(wire):
    """Mean burst 1/r, share of losses p/(p+r)."""
    count = 3000
    wire.set(loss_model=GilbertElliott(p=0.02, r=0.25))
    wire.send(count)
    arrived = {one.number for one in wire.receive_all()}
    bursts = runs([number not in arrived for number in range(count)])
    # Bursts are geometric, of mean 4 and deviation sqrt(12).
    assert statistics.mean(bursts) == pytest.approx(4, abs=5 * math.sqrt(12 / len(bursts)))
    assert sum(bursts) / count == pytest.approx(0.02 / 0.27, rel=0.6)


def test_the_four_state_model_loses_single_packets_when_so_asked(wire):
    count = 1500
    wire.set(loss_model=FourState(p13=0.0, p31=1.0, p14=0.1))
    wire.send(count)
    arrived = {one.number for one in wire.receive_all()}
    bursts = runs([number not in arrived for number in range(count)])
    assert set(bursts) == {1}
    # Never two in a row: one more packet for each loss.
    assert within_chance(len(bursts), count - len(bursts), 0.1)


def test_duplication(wire):
    count = 1000
    wire.set(duplicate=Chance(probability=0.2))
    before = wire.counters.duplicated
    wire.send(count)
    arrived = [one.number for one in wire.receive_all()]
    assert set(arrived) == set(range(count))
    assert within_chance(len(arrived) - count, count, 0.2)
    assert wire.counters.duplicated - before == len(arrived) - count


def test_corruption_is_seen_by_checksums(wire):
    count = 1000
    wire.set(corrupt=Corrupt(probability=0.3))
    wire.send(count, 1000)
    intact = len(wire.receive_all())
    # Bits in the MAC addresses pass no checksum, but reach nobody either; few hit the EtherType.
    assert within_chance(count - intact, count, 0.3)


def test_reordered_packets_skip_the_delay(wire):
    count = 200
    wire.set(delay=0.100, reorder=Reorder(probability=0.25))
    before = wire.counters.reordered
    wire.send(count)
    arrived = [one.number for one in wire.receive_all()]
    assert sorted(arrived) == list(range(count))
    early = wire.counters.reordered - before
    assert within_chance(early, count, 0.25)
    assert arrived[:early] == sorted(arrived[:early])
    assert arrived[early:] == sorted(arrived[early:])


def test_a_gap_lets_every_nth_packet_skip_the_delay(wire):
    wire.set(delay=0.100, reorder=Reorder(probability=1.0, gap=5))
    wire.send(50)
    arrived = [one.number for one in wire.receive_all()]
    assert sorted(arrived) == list(range(50))
    assert all(second - first == 5 for first, second in pairwise(arrived[:10]))


@pytest.mark.parametrize(("distribution", "quartiles"), [("normal", 1.349), ("uniform", 1.0)])
def test_jitter_has_the_spread_that_is_asked_for(wire, plain, distribution, quartiles):
    """By the distance between the quartiles, which a few late packets do not move."""
    spread = 0.004
    wire.set(delay=0.016, jitter=Jitter(spread=spread, distribution=distribution))
    taken = sorted(wire.delays(160))
    assert statistics.median(taken) == pytest.approx(0.016, abs=0.001 + 2 * plain)
    # Of 160 values it has a standard error of 9%.
    assert taken[120] - taken[40] == pytest.approx(quartiles * spread, rel=0.36, abs=plain)
    if distribution == "uniform":
        assert taken[0] >= 0.016 - spread


@pytest.mark.parametrize("reorder", [False, True])
def test_jitter_keeps_the_order_unless_it_may_change_it(wire, reorder):
    count = 100
    wire.set(delay=0.050, jitter=Jitter(spread=0.010, reorder=reorder))
    wire.send(count)
    arrived = [one.number for one in wire.receive_all()]
    assert sorted(arrived) == list(range(count))
    assert (arrived != list(range(count))) == reorder


def test_a_cut_loses_what_enters_and_not_what_is_under_way(wire):
    wire.set(delay=0.100)
    before = wire.counters
    wire.send(3)
    wire.link.cut()
    wire.send(5, start=3)
    assert [one.number for one in wire.receive_all()] == [0, 1, 2]
    wire.link.restore()
    wire.send(2, start=8)
    assert [one.number for one in wire.receive_all()] == [8, 9]
    assert wire.counters.dropped["cut"] - before.dropped["cut"] == 5


def test_one_direction_can_be_cut(wire):
    wire.link.cut(toward="a")
    wire.send(1)
    wire.receive()
    with pytest.raises(LabError, match="No reply"):
        wire.lab["a"].ping("b", timeout=0.1)


def test_a_live_change_leaves_the_rest_and_what_is_under_way_alone(wire):
    wire.set(delay=0.150, loss=0.0)
    wire.send(3)
    wire.set(loss=1.0)
    wire.send(3, start=3)
    wire.set(loss=0.0)
    arrived = wire.receive_all()
    assert [one.number for one in arrived] == [0, 1, 2]
    assert all(one.delay >= 0.150 for one in arrived)
    assert wire.link.impairments("forward").delay == 0.150


def test_a_live_rate_holds_for_packets_that_wait(wire):
    size, count = 1200, 40
    wire.set(rate=100e3, queue=packets(1000))
    wire.send(count, size)
    wire.set(rate=20e6)
    began = time.monotonic()
    assert len(wire.receive_all()) == count
    # At the old rate they would have taken 4 s; two may have been on their way already.
    assert time.monotonic() - began < 1.5


def test_a_schedule_is_followed_and_written_down(wire):
    plan = [
        ScheduledChange(at=0.1, changes={"delay": 0.050}, direction="forward"),
        ScheduledChange(at=0.3, cut=True),
        ScheduledChange(at=0.5, cut=False, changes={"delay": 0.0}),
    ]
    emulator, name = wire.link.emulator, wire.link.name
    began_ns = time.time_ns()
    emulator.schedule(name, plan)
    limit = time.monotonic() + 10
    while len(emulator.journal(name)) < 3:
        assert time.monotonic() < limit
        wire.send(1)
        time.sleep(0.02)
    journal = emulator.journal(name)
    assert [change.error for change in journal] == ["", "", ""]
    assert all(change.time_ns - began_ns >= change.at * 1e9 - 1_000_000 for change in journal)
    assert wire.counters.dropped["cut"] > 0
    wire.receive_all()
    assert statistics.median(wire.delays(9)) < 0.040


def test_an_impossible_schedule_is_refused_at_once(wire):
    with pytest.raises(TestbedError, match="loss"):
        wire.link.emulator.schedule(
            wire.link.name, [ScheduledChange(at=1.0, changes={"loss": 2.0})]
        )


@pytest.mark.parametrize(
    "aqm",
    [Red(probability=0.5, weight=0.1), Codel(target=0.005, interval=0.050)],
    ids=["red", "codel"],
)
def test_an_aqm_keeps_the_queue_of_a_flood_short(wire, aqm):
    """Against one that is only limited: a flood at twice the rate."""
    rate, size = 4e6, 1200
    gap = 8 * (size + UDP_OVER_ETHERNET) / rate / 2
    wire.set(rate=rate, queue=Queue(limit=QueueLimit(400, "packets"), aqm=aqm))
    before = wire.counters
    began = time.monotonic()
    for number in range(600):
        while time.monotonic() < began + number * gap:
            pass
        wire.send(1, size, number)
    wire.receive_all()
    now = wire.counters
    assert now.dropped["aqm"] - before.dropped["aqm"] > 20


@pytest.mark.parametrize(
    "aqm",
    [Red(probability=0.5, weight=0.1), Codel(target=0.001, interval=0.010)],
    ids=["red", "codel"],
)
def test_ecn_marks_instead_of_dropping(wire, aqm):
    rate, size = 4e6, 1200
    queue = Queue(limit=QueueLimit(400, "packets"), aqm=aqm, ecn=True)
    wire.set(rate=rate, queue=queue)
    wire.sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 2)  # ECT(0), RFC 3168
    before = wire.counters
    wire.send(150, size)
    arrived = wire.receive_all()
    now = wire.counters
    assert now.marked - before.marked > 5
    assert len(arrived) == 150 - sum(now.dropped.values()) + sum(before.dropped.values())


def test_counters_add_up(wire):
    wire.set(rate=5e6, loss=0.1, duplicate=Chance(probability=0.1), queue=packets(20))
    before = wire.counters
    wire.send(300, 600)
    wire.receive_all()
    now = wire.counters
    came = now.packets_in - before.packets_in + now.duplicated - before.duplicated
    went = now.packets_out - before.packets_out
    dropped = sum(now.dropped.values()) - sum(before.dropped.values())
    assert came == went + dropped
    assert now.dropped["queue"] > before.dropped["queue"]


@pytest.mark.parametrize(
    ("impairment", "value"),
    [("loss", 1.5), ("delay", -1.0), ("corrupt", Corrupt(probability=2.0)), ("rate", 0.0)],
)
def test_impossible_values_are_refused(wire, impairment, value):
    with pytest.raises(LabError, match=impairment):
        wire.set(**{impairment: value})
