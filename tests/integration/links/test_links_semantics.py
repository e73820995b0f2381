"""What a link does, whichever emulator makes it.

By the virtual clock times are exact to a microsecond. By the real one delays are compared with
those of the same path without impairments, measured on the spot, and what is late because the
machine was busy does not count (`links_helpers`). What chance decides is held against binomial
bounds of five standard deviations.
"""

from __future__ import annotations

import math
import socket
import statistics
import threading
import time
from itertools import groupby, pairwise

import pytest
from links_helpers import UDP_OVER_ETHERNET, await_moment, early, mean_gap, within_chance
from tolerance import tolerance

from testbed.errors import LabError, TestbedError
from testbed.kernel.clock import waits_are_exact
from testbed.kernel.uml import boot as uml
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

#: What a path without impairments takes by the virtual clock: looks at it on the way.
PLAIN = 3e-6
#: Two looks at the virtual clock, in a train of a tenth of a second.
RATE_TOLERANCE = tolerance(0.03, virtual=1e-5)


def packets(count: int) -> Queue:
    return Queue(limit=QueueLimit(count, "packets"))


@pytest.mark.smoke
@pytest.mark.parametrize("delay", [0.005, 0.030])
def test_a_delay_is_added_to_what_the_path_takes_anyway(wire, plain, delay):
    wire.set(delay=delay)
    taken = wire.delays()
    assert min(taken) >= delay
    assert early(taken) < delay + tolerance(3 * plain + 0.001)


def test_each_direction_has_its_own_delay(wire):
    wire.link.set(toward="a", delay=0.050)
    there = min(wire.delays(9))
    began = time.monotonic()
    wire.lab["a"].ping("b")
    assert there < tolerance(0.040, virtual=PLAIN)
    assert 0.050 <= time.monotonic() - began < 0.050 + tolerance(1.0, virtual=50e-6)


@pytest.mark.smoke
@pytest.mark.parametrize(("rate", "size"), [(1e6, 500), (4e6, 1000), (10e6, 1400), (100e6, 1400)])
def test_a_rate_is_that_of_whole_frames(wire, rate, size):
    if rate > 50e6 and uml.inside() and not waits_are_exact():
        pytest.skip("more than User-Mode Linux carries on a busy machine")
    count = max(30, int(rate * 0.12 / (8 * (size + UDP_OVER_ETHERNET))))
    wire.set(rate=rate, queue=packets(10_000))
    assert measure_rate(wire, rate, count, size) == pytest.approx(rate, rel=RATE_TOLERANCE)


def measure_rate(wire, rate: float, count: int, size: int, overhead: int = 0) -> float:
    """Bit/s of whole frames at the far end, in the second quickest of ten trains."""
    bits = 8 * (size + UDP_OVER_ETHERNET + overhead)
    gaps = []
    for _ in range(10):
        wire.send(count, size)
        arrivals = [wire.receive()[1] for _ in range(count)]
        gaps.append(mean_gap(arrivals, 1e9 * bits / rate))
    return 1e9 * bits / sorted(gaps)[1]


def test_a_frame_takes_its_time_at_the_rate_even_when_none_waits(wire, plain):
    rate, size = 400e3, 1000
    alone = 8 * (size + UDP_OVER_ETHERNET) / rate
    wire.set(rate=rate)
    taken = []
    for _ in range(7):
        time.sleep(3 * alone)  # whatever a limiter may save up, it has
        taken += wire.delays(1, size)
    assert early(taken) == pytest.approx(alone, abs=tolerance(3 * plain + 0.001))


def test_overhead_takes_time_at_the_rate(wire):
    wire.set(rate=1e6, overhead=100, queue=packets(1000))
    assert measure_rate(wire, 1e6, 60, 100, overhead=100) == pytest.approx(1e6, rel=RATE_TOLERANCE)


@pytest.mark.parametrize(
    ("limit", "room"),
    [(QueueLimit(20, "packets"), 20), (QueueLimit(20 * 1442, "bytes"), 20)],
    ids=["packets", "bytes"],
)
@pytest.mark.parametrize("delay", [0.0, 0.050])
def test_the_limit_counts_what_waits_and_never_what_is_under_way(wire, limit, room, delay):
    rate, size = 1e6, 1400
    wire.set(rate=rate, delay=delay, queue=Queue(limit=limit))
    before = wire.counters
    began = time.monotonic()
    wire.send(60, size)
    wire.await_entry()
    meanwhile = (time.monotonic() - began) * rate / 8 / (size + UDP_OVER_ETHERNET)
    arrived = wire.receive_all()
    now = wire.counters
    # One is being transmitted while the others wait. Of a limit in bytes the kernel's tbf takes
    # what it lets pass at once, which is less than a packet.
    exact = int(limit.unit == "bytes" and wire.lab.emulator_name == "netem")
    assert abs(len(arrived) - room - 1) <= tolerance(2 + meanwhile, virtual=exact)
    assert now.dropped["queue"] - before.dropped["queue"] == 60 - len(arrived)


def test_a_short_queue_holds_the_full_rate_over_a_long_path(wire):
    """A paced sender keeps many more packets under way, here 85, than may wait."""
    rate, size, count = 10e6, 1400, 600
    gap = 8 * (size + UDP_OVER_ETHERNET) / rate
    wire.set(rate=rate, delay=0.100, queue=packets(20))
    due = time.monotonic()
    for number in range(count):
        due = await_moment(due) + gap  # what the machine holds up makes no burst
        wire.send(1, size, number)
    arrived = wire.receive_all()
    assert len(arrived) >= tolerance(0.95, virtual=1.0) * count
    gaps = [(later.received - one.received) / 1e9 for one, later in pairwise(arrived)]
    assert statistics.median(gaps) == pytest.approx(gap, abs=tolerance(0.05 * gap))


@pytest.mark.smoke
def test_a_full_queue_delays_by_its_limit(wire):
    """By the packets that found it full: those after one that was lost."""
    rate, size, limit = 2e6, 1200, 20
    per_packet = 8 * (size + UDP_OVER_ETHERNET) / rate
    wire.set(rate=rate, queue=packets(limit))
    wire.flood(2 * (limit + 100), per_packet / 2, size)
    arrived = wire.receive_all()
    full = [one.delay for last, one in pairwise(arrived) if last.number != one.number - 1]
    assert len(full) > 7
    # Twice as many come as go: a quarter of the one before them has been sent when they enter.
    assert early(full) == pytest.approx((limit + 0.75) * per_packet, rel=0.08)


def test_tcp_fills_a_queue(wire):
    """Nothing in the middle may throttle the sender before the queue does."""
    wire.set(rate=2e6, queue=packets(60))
    listener = wire.lab["b"].listen(6000)
    client = wire.lab["a"].socket()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    client.connect((wire.lab["b"].address, 6000))
    server, _ = listener.accept()
    deepest = [0]

    def swallow() -> None:
        while server.recv(1 << 16):
            deepest[0] = max(deepest[0], wire.counters.waiting)

    reader = threading.Thread(target=swallow)
    reader.start()
    client.sendall(bytes(400_000))
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
    count = 6000
    wire.set(loss_model=GilbertElliott(p=0.02, r=0.25))
    wire.send(count)
    arrived = {one.number for one in wire.receive_all()}
    bursts = runs([number not in arrived for number in range(count)])
    # Bursts are geometric, of mean 4 and deviation sqrt(12); the share's is 12%.
    assert statistics.mean(bursts) == pytest.approx(4, abs=6 * math.sqrt(12 / len(bursts)))
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
    count, delay = 200, 0.4
    wire.set(delay=delay, reorder=Reorder(probability=0.25))
    before = wire.counters.reordered
    wire.send(count)
    arrived = wire.receive_all()
    assert sorted(one.number for one in arrived) == list(range(count))
    skipped = [one.number for one in arrived if one.delay < delay]
    delayed = [one.number for one in arrived if one.delay >= delay]
    assert len(skipped) == wire.counters.reordered - before
    assert within_chance(len(skipped), count, 0.25)
    assert skipped == sorted(skipped) and delayed == sorted(delayed)


def test_a_gap_lets_every_nth_packet_skip_the_delay(wire):
    delay = 0.4
    wire.set(delay=delay, reorder=Reorder(probability=1.0, gap=5))
    wire.send(50)
    arrived = wire.receive_all()
    assert sorted(one.number for one in arrived) == list(range(50))
    skipped = [one.number for one in arrived if one.delay < delay]
    assert len(skipped) >= 9
    assert all(second - first == 5 for first, second in pairwise(skipped))


@pytest.mark.parametrize(("distribution", "quartiles"), [("normal", 1.349), ("uniform", 1.0)])
def test_jitter_has_the_spread_that_is_asked_for(wire, plain, distribution, quartiles):
    """By the quartiles, which a few late packets do not move; each packet by itself."""
    delay, spread = 0.100, 0.020
    jitter = Jitter(spread=spread, distribution=distribution, reorder=True)
    wire.set(delay=delay, jitter=jitter)
    wire.pace(400, 0.001, 100)
    taken = sorted(one.delay for one in wire.receive_all())
    # Of 400 values they have standard errors of 6% of the spread.
    assert statistics.median(taken) == pytest.approx(delay, abs=0.3 * spread + 2 * plain)
    assert taken[300] - taken[100] == pytest.approx(quartiles * spread, rel=0.3, abs=plain)
    if distribution == "uniform":
        assert taken[0] >= delay - spread


@pytest.mark.parametrize("reorder", [False, True])
def test_jitter_keeps_the_order_unless_it_may_change_it(wire, reorder):
    count = 100
    wire.set(delay=0.050, jitter=Jitter(spread=0.010, reorder=reorder))
    wire.send(count)
    arrived = [one.number for one in wire.receive_all()]
    assert sorted(arrived) == list(range(count))
    assert (arrived != list(range(count))) == reorder


@pytest.mark.smoke
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
    # The kernel's own reports of multicast may come in between.
    assert 5 <= wire.counters.dropped["cut"] - before.dropped["cut"] <= 7


def test_an_unplugged_cable_is_seen_by_both_ends_and_loses_what_is_under_way(wire):
    routes = [wire.lab[name].run(["ip", "route"]).stdout for name in "ab"]
    wire.set(delay=0.100)
    wire.send(3)
    wire.link.unplug()
    assert not wire.link.plugged
    for name in "ab":
        assert "NO-CARRIER" in wire.lab[name].run(["ip", "link", "show", "eth0"]).stdout
    wire.send_in_vain()
    assert wire.receive_all() == []
    wire.link.plug()
    assert wire.link.plugged
    wire.send(2, start=5)
    assert [one.number for one in wire.receive_all()] == [5, 6]
    assert [wire.lab[name].run(["ip", "route"]).stdout for name in "ab"] == routes
    wire.lab["b"].ping(wire.lab["a"].address6)


def test_a_cable_put_back_does_not_end_a_cut(wire):
    wire.link.cut()
    wire.link.unplug()
    wire.link.plug()
    wire.send(1)
    assert wire.receive_all() == []
    wire.link.restore()


def test_a_schedule_pulls_the_cable_out_and_puts_it_back(wire):
    emulator, name = wire.link.emulator, wire.link.name
    emulator.schedule(
        name, [ScheduledChange(at=0.1, plugged=False), ScheduledChange(at=0.4, plugged=True)]
    )
    limit = time.monotonic() + 10
    seen = set()
    while len(emulator.journal(name)) < 2:
        assert time.monotonic() < limit
        seen.add(wire.link.plugged)
        time.sleep(0.02)
    assert False in seen
    assert [change.error for change in emulator.journal(name)] == ["", ""]
    wire.link.plug()  # until its kernel has heard of it
    wire.send(1)
    assert len(wire.receive_all()) == 1


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
    size, count, slow = 1200, 100, 100e3
    wire.set(rate=slow, queue=packets(1000))
    wire.send(count, size)
    wire.set(rate=20e6)
    began = time.monotonic()
    assert len(wire.receive_all()) == count
    # Two may have been on their way already.
    assert time.monotonic() - began < count * 8 * size / slow / 3


@pytest.mark.smoke
def test_a_schedule_is_followed_and_written_down(wire):
    plan = [
        ScheduledChange(at=0.1, changes={"delay": 0.050}, direction="forward"),
        ScheduledChange(at=0.3, cut=True),
        ScheduledChange(at=0.7, cut=False, changes={"delay": 0.0}),
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
    late = [(change.time_ns - began_ns) / 1e9 - change.at for change in journal]
    assert min(late) >= -0.001
    assert max(late) < tolerance(5.0, virtual=50e-6)
    assert wire.counters.dropped["cut"] > 0
    wire.receive_all()
    assert min(wire.delays(9)) < tolerance(0.040, virtual=PLAIN)


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
    wire.flood(600, gap, size)
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


@pytest.mark.smoke
def test_counters_add_up(wire):
    wire.set(rate=1e6, loss=0.1, duplicate=Chance(probability=0.1), queue=packets(20))
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
