"""Cutting, restoring and changing a link while it is in use."""

from __future__ import annotations

import threading

import pytest
from lab_topologies import pair

from testbed.errors import LabError, TestbedError
from testbed.lab import Lab
from testbed.topology.model import Impairments

BRIEF = 0.3


@pytest.fixture(scope="module")
def shared():
    """One lab for the tests that leave its link as they found it."""
    with Lab(pair(forward=Impairments(delay=0.01), reverse=Impairments(delay=0.01))) as lab:
        assert lab.link("a", "b").counters  # the first answer brings what stays until the end
        yield lab


@pytest.fixture
def lab(shared):
    cable = shared.link("a", "b")
    yield shared
    cable.restore()
    cable.set(rate=None, delay="10ms", loss=0)


def quickest(lab: Lab) -> float:
    """Seconds there and back; the machine may stall during some of the pings."""
    return min(lab["a"].ping("b") for _ in range(4))


def answered(lab: Lab) -> bool:
    try:
        lab["a"].ping("b", timeout=BRIEF)
    except LabError:
        return False
    return True


def test_a_cut_lasts_until_it_is_restored(lab):
    cable = lab.link("b", "a")
    lab["a"].ping("b")
    cable.cut()
    assert not answered(lab)
    cable.restore()
    lab["a"].ping("b")
    assert cable.counters.forward.dropped["cut"] > 0


def test_one_direction_is_cut(lab):
    cable = lab.link("a", "b")
    before = cable.counters
    cable.cut(toward="a")
    assert not answered(lab)
    after = cable.counters
    assert after.forward.dropped["cut"] == before.forward.dropped["cut"]
    assert after.reverse.dropped["cut"] > before.reverse.dropped["cut"]
    cable.restore(toward="a")
    lab["a"].ping("b")


@pytest.mark.parametrize("delay", ["150ms", 0.15, "0.15s"])
def test_a_delay_is_changed_by_text_or_by_number_and_the_rest_stays(lab, delay):
    cable = lab.link("a", "b")
    cable.set(loss="0%", rate="100mbit")
    cable.set(toward="b", delay=delay)
    assert 0.16 <= quickest(lab) < 0.3
    assert cable.impairments("forward").rate == 100e6
    assert cable.impairments("forward").delay == pytest.approx(0.15)
    assert cable.impairments("reverse").delay == pytest.approx(0.01)


def test_a_rate_and_its_queue_are_set_and_lifted(lab):
    cable = lab.link("a", "b")
    cable.set(rate="8kbit", queue="10 packets")
    assert quickest(lab) > 0.1  # 54 bytes at 1000 bytes/s, each way
    assert cable.impairments("forward").queue.limit.amount == 10
    cable.set(rate=None)
    assert quickest(lab) < 0.1


def test_changes_from_many_threads_do_not_undo_each_other(lab):
    cable = lab.link("a", "b")
    values = {"delay": 0.05, "loss": 0.25, "rate": 1e7}
    for _ in range(10):
        cable.set(delay=0, loss=0, rate=None)
        threads = [
            threading.Thread(target=cable.set, kwargs={name: value})
            for name, value in values.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = cable.impairments("forward")
        assert {name: getattr(found, name) for name in values} == pytest.approx(values)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"speed": 1}, "there is no impairment 'speed'; did you mean 'rate'"),
        ({"delay": "20 parsecs"}, "delay"),
        ({"delay": -1}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"loss": 2}, "loss"),
        ({"jitter": "5%"}, "jitter: expected a duration"),
        ({"loss": {"model": "gilbert"}}, "loss.model: expected one of"),
        ({"reorder": {"gap": 2}}, "reorder: the key .probability. is missing"),
        ({"loss": True}, "loss"),
        ({"rate": 0}, "rate"),
        ({"rate": float("inf")}, "rate"),
        ({"queue": 100}, "queue"),
        ({"queue": None}, "queue"),
        ({"toward": "c", "delay": 0}, "does not lead to 'c', only to 'a' and 'b'"),
    ],
)
def test_what_cannot_be_set_is_refused_and_changes_nothing(lab, changes, told):
    cable = lab.link("a", "b")
    before = cable.impairments("forward"), cable.impairments("reverse")
    with pytest.raises(TestbedError, match=told):
        cable.set(**changes)
    assert (cable.impairments("forward"), cable.impairments("reverse")) == before


def test_a_plain_cable_says_how_to_make_it_changeable():
    with Lab(pair()) as lab:
        cable = lab.link("a", "b")
        assert cable.impairments("forward").harmless
        for what, use in (
            ("cut", cable.cut),
            ("restored", cable.restore),
            ("changed", lambda: cable.set(delay=1)),
            ("counted", lambda: cable.counters),
        ):
            with pytest.raises(LabError, match=f"plain cable.*cannot be {what}.*emulated: true"):
                use()
