"""What a lab makes of impairments, schedules and logs: told, changed live, written down."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time

import msgspec
import pytest
from lab_topologies import link, pair

from testbed.errors import CaptureError, LabError, ProcessDied
from testbed.lab import Lab
from testbed.topology.model import (
    Chance,
    Codel,
    Corrupt,
    DropRule,
    GilbertElliott,
    Impairments,
    Jitter,
    Node,
    Queue,
    QueueLimit,
    RateTrace,
    Red,
    Reorder,
    ScheduledChange,
    Topology,
)
from testbed.topology.yaml.load import loads
from testbed.trace import read_fates

PORT = 4000
PATIENCE = 30.0
YAML = """\
name: t
nodes: {a: , b: }
links:
  - endpoints: [a:eth0, b:eth0]
"""


@pytest.fixture(scope="module")
def shared():
    with Lab(pair(emulated=True)) as lab:
        yield lab


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"jitter": {"spread": "1ms", "distribution": "uniform"}},
         {"jitter": Jitter(spread=0.001, distribution="uniform")}),
        ({"loss": {"model": "gilbert-elliott", "p": "1%", "r": "10%"}},
         {"loss_model": GilbertElliott(p=0.01, r=0.1)}),
        ({"drop": [{"data_segment": 3, "connection": 1}]},
         {"drop": (DropRule(data_segment=3, connection=1),)}),
        ({"duplicate": "5%"}, {"duplicate": Chance(probability=0.05)}),
        ({"reorder": {"probability": "5%", "gap": 5}},
         {"reorder": Reorder(probability=0.05, gap=5)}),
        ({"corrupt": {"probability": "5%", "where": "payload"}},
         {"corrupt": Corrupt(probability=0.05, where="payload")}),
        ({"rate": "10mbit", "overhead": 38, "queue": {"limit": "64KiB", "aqm": "codel"}},
         {"rate": 1e7, "overhead": 38,
          "queue": Queue(limit=QueueLimit(65536, "bytes"), aqm=Codel())}),
        ({"rate": "10mbit", "queue": {"aqm": "red", "ecn": True}},
         {"rate": 1e7, "queue": Queue(aqm=Red(), ecn=True)}),
        ({"rate": RateTrace((1, 2, 4))}, {"rate_trace": RateTrace((1, 2, 4))}),
    ],
)  # fmt: skip
def test_every_impairment_is_set_live_and_read_back(shared, changes, fields):
    cable = shared.link("a", "b")
    cable.set(toward="b", **changes)
    try:
        assert cable.impairments("forward") == Impairments(**fields)
        assert cable.impairments("reverse") == Impairments()
    finally:
        cable.set(rate=None, overhead=0, queue=Queue(), jitter=None, loss=0, drop=[],
                  duplicate=None, reorder=None, corrupt=None)  # fmt: skip
    assert cable.impairments("forward").harmless


def test_a_discipline_that_only_the_kernel_has_is_refused_live(shared):
    with pytest.raises(LabError, match="fq_codel"):
        shared.link("a", "b").set(rate="1mbit", queue={"aqm": "fq_codel"})


def test_a_schedule_begins_when_the_lab_is_ready_and_can_begin_again():
    schedule = (
        ScheduledChange(at=0.3, changes={"delay": 0.1}),
        ScheduledChange(at=0.1, cut=True, direction="reverse"),
        ScheduledChange(at=0.2, cut=False),
    )
    with Lab(pair(schedule=schedule, forward=Impairments(delay=0.01))) as lab:
        cable = lab.link("a", "b")
        began = time.time_ns()
        events = await_events(cable, 3)
        assert [event.change.at for event in events] == [0.1, 0.2, 0.3]
        assert events[0].change.cut is True and events[1].change.cut is False
        assert [event.error for event in events] == ["", "", ""]
        times = [event.time_ns for event in events]
        assert times == sorted(times) and times[-1] > began
        assert cable.impairments("forward").delay == cable.impairments("reverse").delay == 0.1
        cable.start_schedule()
        assert cable.impairments("forward").delay == 0.01
        assert cable.impairments("reverse").delay == 0
        assert await_events(cable, 3)[0].time_ns > times[-1]


def await_events(cable, count):
    deadline = time.monotonic() + PATIENCE
    while len(cable.events) < count:
        assert time.monotonic() < deadline, cable.events
        time.sleep(0.01)
    return cable.events


def test_a_link_without_a_schedule_has_no_events(shared):
    cable = shared.link("a", "b")
    assert cable.events == ()
    with pytest.raises(LabError, match="no `schedule`"):
        cable.start_schedule()


def send(lab, count):
    """Datagrams of 100 bytes from a to b, once the network is quiet; which of them arrive."""
    with (
        lab["a"].socket(kind=socket.SOCK_DGRAM) as sender,
        lab["b"].socket(kind=socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind((lab["b"].address, PORT))
        for number in range(count):
            sender.sendto(number.to_bytes(4, "big") * 25, (lab["b"].address, PORT))
        await_passage(lab.link("a", "b"), count)
        receiver.setblocking(False)
        arrived = []
        with contextlib.suppress(BlockingIOError):
            while data := receiver.recv(2000):
                arrived.append(int.from_bytes(data[:4], "big"))
    return arrived


def await_passage(cable, count):
    deadline = time.monotonic() + PATIENCE
    while (now := cable.counters.forward).packets_in < count or now.waiting + now.in_flight:
        assert time.monotonic() < deadline, now
        time.sleep(0.005)


def test_the_fate_of_every_packet_is_written_down(tmp_path):
    dropped = (DropRule(packet=2), DropRule(packet=5))
    described = pair(forward=Impairments(delay=0.02, drop=dropped), log=True)
    with Lab(described, captures=tmp_path / "out") as lab:
        assert send(lab, 6) == [0, 2, 3, 5]
        so_far = list(read_fates(lab.link("a", "b").fates))
        assert sum(fate.dropped for fate in so_far) == 2
    path = tmp_path / "out" / "a-eth0-b-eth0.fates.csv"
    fates = [fate for fate in read_fates(path) if fate.direction == "forward"]
    data = [fate for fate in fates if fate.size == 142]  # and no report of a multicast group
    assert [fate.verdict for fate in sorted(data, key=lambda one: one.number)] == [
        *("sent", "script", "sent", "sent", "script", "sent")
    ]
    for fate in data:
        if fate.dropped:
            continue
        assert fate.due is not None
        assert fate.due - fate.came == pytest.approx(20e6, abs=1e6)
        assert fate.left >= fate.due
    assert {fate.due for fate in fates if fate.dropped} == {None}


def test_fates_without_a_directory_vanish_with_the_lab():
    with Lab(pair(log=True)) as lab:
        assert send(lab, 3) == [0, 1, 2]
        path = lab.link("a", "b").fates
        assert sum(fate.size == 142 for fate in read_fates(path)) == 3
    assert not path.exists()


def test_a_link_that_keeps_no_log_says_how_it_would(shared):
    with pytest.raises(LabError, match="`log: true`"):
        _ = shared.link("a", "b").fates


def test_a_log_that_cannot_be_written_fails_the_lab(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CaptureError, match="cannot be written"):
        Lab(pair(log=True), captures=tmp_path / "file").__enter__()


def star(hosts: int, **settings) -> Topology:
    names = [f"h{number}" for number in range(hosts)]
    return Topology(
        name="star",
        nodes={name: Node(name=name, kind="host") for name in ["middle", *names]},
        links=tuple(link(f"middle:{name}", f"{name}:eth0", emulated=True) for name in names),
        **settings,
    )


def emulators(lab) -> set[int]:
    return {process.pid for process, name in lab._runtime._causes if "emulator" in name}


def test_links_are_spread_over_several_emulators():
    with Lab(star(3, emulator_processes=2)) as lab:
        assert len(emulators(lab)) == 2
        for name in ("h0", "h1", "h2"):
            assert lab["middle"].ping(name) < 1
        used = [lab.link("middle", name).emulator for name in ("h0", "h1", "h2")]
        assert used[0] is used[2] is not used[1]
        assert lab.lateness is not None and lab.lateness.packets >= 2


def test_no_more_emulators_than_links():
    with Lab(star(2, emulator_processes=9)) as lab:
        assert len(emulators(lab)) == 2


def test_one_of_several_emulators_that_dies_fails_the_lab_soon():
    with pytest.raises(ProcessDied, match=r"The link emulator \d of 2 was killed by signal 9"):  # noqa: SIM117
        with Lab(star(2, emulator_processes=2)) as lab:
            with lab["h0"].listen(PORT) as waiting:
                killed = time.monotonic()
                os.kill(min(emulators(lab)), signal.SIGKILL)
                with pytest.raises(OSError):
                    waiting.accept()
                assert time.monotonic() - killed < 5


def arrivals(topology) -> list[int]:
    with Lab(topology) as lab:
        arrived = send(lab, 200)
        fates = list(read_fates(lab.link("a", "b").fates))
    lost = sum(fate.verdict == "loss" and fate.size == 142 for fate in fates)
    assert lost == 200 - len(arrived)
    return arrived


@pytest.mark.parametrize(
    "loss", ["10%", "{model: gilbert-elliott, p: 5%, r: 30%}"], ids=["random", "bursty"]
)
def test_the_same_seed_loses_the_same_packets(loss):
    keys = f"    forward: {{loss: {loss}}}\n    log: true\n"
    topology = loads(YAML.replace("nodes", "seed: 5\nnodes", 1) + keys)
    first, second, third = (arrivals(topology) for _ in range(3))
    assert 100 < len(first) < 198
    assert first == second == third
    assert arrivals(msgspec.structs.replace(topology, seed=6)) != first
