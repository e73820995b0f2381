from __future__ import annotations

from typing import Any

import pytest

from testbed.emulator.choice import choose, netem_problems, userspace_problems
from testbed.emulator.netem.probe import NetemSupport
from testbed.errors import TopologyError
from testbed.topology.model import (
    DropRule,
    Endpoint,
    Impairments,
    KernelAqm,
    Link,
    Node,
    Queue,
    Topology,
)

ABLE = NetemSupport(missing=(), seeded=True, coarse_timers=False)
UNSEEDED = NetemSupport(missing=(), seeded=False, coarse_timers=False)
UNABLE = NetemSupport(missing=("sch_netem",), seeded=False, coarse_timers=False)
PLAIN = Impairments(delay=0.01)
SCRIPTED = Impairments(drop=(DropRule(packet=1),))
FAIR = Impairments(rate=1e6, queue=Queue(aqm=KernelAqm(name="fq_codel")))


def topology(impairments: Impairments, emulator="auto", seed=0) -> Topology:
    ends = (Endpoint("a", "eth0"), Endpoint("b", "eth0"))
    return Topology(
        name="choice",
        nodes={"a": Node(name="a"), "b": Node(name="b")},
        links=(Link(endpoints=ends, forward=impairments),),
        emulator=emulator,
        seed=seed,
    )


class Kernel:
    """Stands for a namespace of a kernel that can do so much."""

    def __init__(self, support: NetemSupport) -> None:
        self.support = support
        self.tried: set[str] | None = None

    def call(self, _, kinds) -> NetemSupport:
        self.tried = kinds
        return self.support


def fake_kernel(support: NetemSupport) -> Any:
    return Kernel(support)


@pytest.mark.parametrize(
    ("asked", "impairments", "support", "chosen"),
    [
        ("auto", PLAIN, ABLE, "netem"),
        ("auto", PLAIN, UNABLE, "userspace"),
        ("auto", SCRIPTED, ABLE, "userspace"),
        ("auto", FAIR, ABLE, "netem"),
        ("netem", PLAIN, ABLE, "netem"),
        ("userspace", PLAIN, ABLE, "userspace"),
    ],
)
def test_what_is_chosen(asked, impairments, support, chosen):
    assert choose(topology(impairments, asked), fake_kernel(support)).emulator == chosen


def test_a_seed_that_netem_cannot_be_given_is_a_reason_against_it():
    assert choose(topology(PLAIN, seed=7), fake_kernel(UNSEEDED)).emulator == "userspace"
    assert choose(topology(PLAIN), fake_kernel(UNSEEDED)).emulator == "netem"


@pytest.mark.parametrize(
    ("asked", "impairments", "support", "words"),
    [
        ("netem", PLAIN, UNABLE, ["sch_netem", "--kernel uml", "emulator: userspace"]),
        ("netem", SCRIPTED, ABLE, ["a:eth0 to b:eth0", "script", "emulator: userspace"]),
        ("userspace", FAIR, ABLE, ["fq_codel", "--kernel uml"]),
        ("auto", FAIR, UNABLE, ["userspace: ", "netem: ", "--kernel uml"]),
    ],
)
def test_refusals_name_the_reason_and_the_way_out(asked, impairments, support, words):
    with pytest.raises(TopologyError) as refused:
        choose(topology(impairments, asked), fake_kernel(support))
    assert all(word in str(refused.value) for word in words), refused.value


def test_only_what_is_needed_is_tried():
    kernel = fake_kernel(ABLE)
    choose(topology(FAIR), kernel)
    assert kernel.tried == {"netem", "tbf", "fq_codel", "pfifo"}
    untried = fake_kernel(ABLE)
    choose(topology(PLAIN, "userspace"), untried)
    assert untried.tried is None


def test_every_link_and_both_emulators_are_told_of():
    several = topology(SCRIPTED).links + topology(PLAIN).links
    assert len(netem_problems(topology(PLAIN), several, ABLE)) == 1
    assert userspace_problems(several) == []
