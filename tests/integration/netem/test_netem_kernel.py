"""The netem emulator on a kernel that has it: read-back, disciplines, choice."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import Any

import pytest
from msgspec import structs

from testbed.emulator.netem.probe import probe_netem
from testbed.errors import LabError, ReadBackError, TestbedError, TopologyError
from testbed.kernel.namespace import NamespaceThread
from testbed.kernel.netlink import state
from testbed.kernel.netlink.socket import Netlink
from testbed.lab import Lab
from testbed.scenarios.environment import observe
from testbed.topology.model import (
    Chance,
    Codel,
    Corrupt,
    DropRule,
    Endpoint,
    FourState,
    GilbertElliott,
    Impairments,
    Jitter,
    KernelAqm,
    Link,
    Node,
    Queue,
    QueueLimit,
    Red,
    Reorder,
    ScheduledChange,
    Topology,
)
from testbed.traffic import stream

DEADLINE = 20.0
RATE = 4e6


def support():
    thread = NamespaceThread()
    try:
        namespace = thread.create_namespace()
        found = namespace.call(probe_netem)
        namespace.close()
    except TestbedError as error:
        pytest.skip(str(error), allow_module_level=True)
    finally:
        thread.close()
    return found


SUPPORT = support()
if SUPPORT.missing:
    pytest.skip(
        f"this kernel has no {', '.join(SUPPORT.missing)}; `make test-uml` has",
        allow_module_level=True,
    )


def wire(
    forward: Impairments, emulator="netem", seed=0, reverse: Impairments | None = None, **settings
) -> Topology:
    ends = (Endpoint("a", "eth0"), Endpoint("b", "eth0"))
    both: dict[str, Any] = {"forward": forward, "reverse": reverse or Impairments()}
    return Topology(
        name="wire",
        nodes={"a": Node(name="a"), "b": Node(name="b")},
        links=(Link(endpoints=ends, emulated=True, **both, **settings),),
        emulator=emulator,
        seed=seed,
    )


@pytest.fixture(scope="module")
def lab():
    with Lab(wire(Impairments())) as running:
        yield running


@pytest.mark.parametrize(
    "impairments",
    [
        Impairments(delay=0.123456789, jitter=Jitter(spread=0.001)),
        Impairments(loss=0.123, duplicate=Chance(probability=0.1, correlation=0.5)),
        Impairments(corrupt=Corrupt(probability=0.1), reorder=Reorder(probability=0.5, gap=4)),
        Impairments(loss_model=GilbertElliott(p=0.01, r=0.2, bad_loss=0.9, good_loss=0.001)),
        Impairments(loss_model=FourState(p13=0.1, p31=0.4, p32=0.2, p23=0.3, p14=0.05)),
        Impairments(rate=2000),
        Impairments(rate=99e9, overhead=38),
        Impairments(rate=1e6, queue=Queue(limit=QueueLimit(0.2, "seconds"))),
        Impairments(rate=1e6, queue=Queue(aqm=Red(), ecn=True)),
        Impairments(rate=1e6, queue=Queue(aqm=Codel(target=0.0123, interval=0.456))),
        Impairments(rate=1e6, queue=Queue(aqm=KernelAqm(name="fq_codel"), ecn=True)),
        Impairments(rate=1e6, queue=Queue(aqm=KernelAqm(name="pie"))),
        Impairments(rate=1e6, overhead=8, queue=Queue(aqm=KernelAqm(name="cake"))),
        Impairments(),
    ],
    ids=lambda given: "+".join(
        name
        for name in Impairments.__struct_fields__
        if getattr(given, name) != getattr(Impairments(), name)
    ),
)
def test_the_kernel_has_what_was_set_one_after_the_other(lab, impairments):
    """On one link, so that every change also has to undo the one before."""
    link = lab.links[0]
    link.emulator.set(link.name, "forward", impairments)
    assert link.emulator.read_back(link.name) == (impairments, Impairments())


@pytest.mark.parametrize(
    ("interface", "qdisc"),
    [
        ("x0-0", "netem loss 5%"),
        ("y0-0", "tbf rate 1mbit burst 10k limit 20"),
        ("b-0", "netem delay 1ms"),
        ("b-0", "pfifo"),
    ],
)
def test_what_somebody_else_changed_is_found_when_it_is_read_back(interface, qdisc):
    with Lab(wire(Impairments(delay=0.001, rate=2e6))) as lab:
        link = lab.links[0]
        emulator: Any = link.emulator
        hidden = emulator._namespace
        words = ["tc", "qdisc", "replace", "dev", interface, "root", *qdisc.split()]
        if qdisc.startswith(("netem", "tbf")):
            words[6:6] = ["handle", "1:"]
        hidden.call(_run, words)
        with pytest.raises(ReadBackError, match="the kernel has"):
            link.set(loss=0.01)


def _run(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def flood(lab: Lab, count: int, size: int = 1200) -> None:
    """Send at twice the rate."""
    gap = 8 * size / (2 * RATE)
    began = time.monotonic()
    with lab["a"].socket(kind=socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, 32, 16 << 20)  # SO_SNDBUFFORCE
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 2)  # ECT(0), RFC 3168
        sender.connect((lab["b"].address, 9))
        for number in range(count):
            time.sleep(max(0.0, began + number * gap - time.monotonic()))
            try:
                sender.send(bytes(size))
            except ConnectionRefusedError:  # nobody listens, as b says by ICMP
                continue


def await_empty(lab: Lab):
    limit = time.monotonic() + DEADLINE
    while (now := lab.links[0].counters.forward).waiting or now.in_flight:
        assert time.monotonic() < limit, now
        time.sleep(0.01)
    return now


@pytest.mark.parametrize("name", ["fq_codel", "pie", "cake"])
def test_the_kernels_own_disciplines_act_on_a_standing_queue(lab, name):
    link = lab.links[0]
    aqm = KernelAqm(name=name)
    link.set(toward="b", rate=RATE, queue=Queue(aqm=aqm, ecn=True))
    before = link.counters.forward
    flood(lab, 1000)
    now = await_empty(lab)
    acted = now.marked - before.marked + now.dropped["aqm"] - before.dropped["aqm"]
    assert acted > 0
    assert now.packets_in - before.packets_in == (
        now.packets_out
        - before.packets_out
        + sum(now.dropped.values())
        - sum(before.dropped.values())
    )


@pytest.mark.parametrize("mtu", [1500, 9000])
def test_disciplines_see_the_mtu_of_the_link(mtu):
    with Lab(wire(Impairments(), mtu=mtu)) as running:
        emulator: Any = running.links[0].emulator
        hidden = emulator._namespace
        with hidden.call(Netlink) as netlink:
            found = {one.mtu for one in state.interfaces(netlink).values() if one.name != "lo"}
    assert found == {mtu}


@pytest.mark.parametrize(
    "aqm", [Codel(), *(KernelAqm(name=name) for name in ("fq_codel", "pie", "cake"))], ids=str
)
def test_disciplines_keep_the_queue_of_a_slow_link_short(aqm):
    """A standing queue that they forgave up to 64 KiB would take 262 ms."""
    forward = Impairments(rate=2e6, delay=0.02, queue=Queue(aqm=aqm))
    topology = wire(forward, reverse=Impairments(delay=0.02))
    nodes = {name: Node(name=name, congestion_control="cubic") for name in "ab"}
    with Lab(structs.replace(topology, nodes=nodes)) as running:
        sent = stream(running["a"], running["b"], 8)
    assert sent.round_trip(last=0.3) < 0.16


def test_counters_go_on_when_a_discipline_is_replaced(lab):
    link = lab.links[0]
    link.set(toward="b", rate=RATE, queue=Queue(aqm=Codel(target=0.001, interval=0.01)))
    flood(lab, 300)
    before = await_empty(lab)
    assert before.dropped["aqm"] > 0
    link.set(toward="b", queue=Queue(limit=QueueLimit(50, "packets")))
    after = link.counters.forward
    assert after.dropped["aqm"] == before.dropped["aqm"]
    assert after.dropped["queue"] == before.dropped["queue"]


def test_auto_takes_netem_and_says_so():
    with Lab(wire(Impairments(delay=0.001), emulator="auto")) as lab:
        assert lab.emulator_name == "netem"
        assert observe(lab).emulator == "netem"


def test_what_netem_cannot_do_is_refused_before_anything_is_built():
    script = Impairments(drop=(DropRule(packet=1),))
    with pytest.raises(TopologyError, match="script"), Lab(wire(script)):
        raise AssertionError("was built")
    with Lab(wire(Impairments())) as lab, pytest.raises(LabError, match="script"):
        lab.links[0].set(drop=script.drop)


@pytest.mark.skipif(SUPPORT.seeded, reason="this kernel's netem can be given a seed")
def test_a_seed_that_the_kernel_would_ignore_is_refused():
    with pytest.raises(TopologyError, match=r"6\.6"), Lab(wire(Impairments(loss=0.1), seed=5)):
        raise AssertionError("was built")


def test_two_links_do_not_disturb_each_other():
    names = ("a", "m", "b")
    links = tuple(
        Link(
            endpoints=(Endpoint(one, f"to-{other}"), Endpoint(other, f"to-{one}")),
            forward=Impairments(delay=delay),
        )
        for one, other, delay in (("a", "m", 0.02), ("m", "b", 0.03))
    )
    nodes = {name: Node(name=name, kind="router" if name == "m" else "host") for name in names}
    topology = Topology(name="chain", nodes=nodes, links=links, emulator="netem")
    with Lab(topology) as lab:
        assert 0.05 <= min(lab["a"].ping("b") for _ in range(5)) < 0.07
        lab.link("m", "b").cut()
        assert 0.02 <= min(lab["a"].ping("m") for _ in range(5)) < 0.05
        with pytest.raises(LabError, match="No reply"):
            lab["a"].ping("b", timeout=0.2)


def test_frames_that_are_no_ip_pass_untouched(lab):
    lab.links[0].emulator.set(lab.links[0].name, "forward", Impairments(delay=0.001))
    frame = b"\xff" * 6 + b"\x02" * 6 + b"\x88\xb5" + bytes(range(200))
    with (
        lab["b"].socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5)) as receiver,
        lab["a"].socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender,
    ):
        receiver.settimeout(DEADLINE)
        sender.bind(("eth0", 0))
        for sent in (frame, frame[:14] + bytes(1500)):
            sender.send(sent)
            assert receiver.recv(4096) == sent


def test_a_schedule_runs_in_a_lab_that_has_started_programs():
    change = ScheduledChange(at=0.05, cut=True)
    topology = structs.replace(
        wire(Impairments(delay=0.001)), captures=(Endpoint("a", "eth0"), Endpoint("b", "eth0"))
    )
    (link,) = topology.links
    topology = structs.replace(topology, links=(structs.replace(link, schedule=(change,)),))
    with Lab(topology) as lab:
        limit = time.monotonic() + DEADLINE
        while not lab.link("a", "b").events:
            assert time.monotonic() < limit
            time.sleep(0.01)
        (event,) = lab.link("a", "b").events
    assert event.change == change
    assert not event.error
