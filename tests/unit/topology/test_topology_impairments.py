"""Impairments: what each key of a link means, in YAML and to a running lab."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import InvalidValue, TopologyError
from testbed.topology.checks.topology import check
from testbed.topology.model import (
    Chance,
    Codel,
    Corrupt,
    DropRule,
    FourState,
    GilbertElliott,
    Impairments,
    Jitter,
    KernelAqm,
    Link,
    Queue,
    QueueLimit,
    RateTrace,
    Red,
    Reorder,
    ScheduledChange,
)
from testbed.topology.planning.plan import plan
from testbed.topology.vary import with_link
from testbed.topology.yaml.impairments import MAX_TRACE_BYTES, parse_changes
from testbed.topology.yaml.load import load, loads

TINY = Path(__file__).with_name("tiny.trace")
HEAD = "name: t\nnodes: {a: , b: }\n"
PAIR = HEAD + "links:\n  - endpoints: [a:eth0, b:eth0]\n"


def link(keys: str) -> Link:
    return loads(PAIR + "".join(f"    {key}\n" for key in keys.split("\n"))).links[0]


def problems(text: str) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        loads(text, source="t.yaml")
    return list(caught.value.problems)


MEANINGS = [
    ("rate: 100mbit", {"rate": 1e8}),
    (f"rate: {{trace: {TINY}}}", {"rate_trace": RateTrace((0, 1, 1, 5))}),
    ("overhead: 38", {"overhead": 38}),
    ("jitter: 5ms", {"jitter": Jitter(spread=0.005)}),
    (
        "jitter: {spread: 5ms, distribution: pareto, correlation: 25%, reorder: true}",
        {"jitter": Jitter(spread=0.005, distribution="pareto", correlation=0.25, reorder=True)},
    ),
    ("jitter: 0", {}),
    ("loss: 1%", {"loss": 0.01}),
    (
        "loss: {model: gilbert-elliott, p: 1%, r: 10%, bad_loss: 50%, good_loss: 0.1%}",
        {"loss_model": GilbertElliott(p=0.01, r=0.1, bad_loss=0.5, good_loss=0.001)},
    ),
    ("loss: {model: gilbert-elliott, p: 1%}", {"loss_model": GilbertElliott(p=0.01)}),
    (
        "loss: {model: state, p13: 1%, p31: 40%, p32: 10%, p23: 90%, p14: 1%}",
        {"loss_model": FourState(p13=0.01, p31=0.4, p32=0.1, p23=0.9, p14=0.01)},
    ),
    (
        "drop: [{packet: 7}, {data_segment: 3, connection: 1}, {flags: SYN+ACK, nth: 2}, "
        "{retransmission: 1}]",
        {
            "drop": (
                DropRule(packet=7),
                DropRule(data_segment=3, connection=1),
                DropRule(flags="SYN+ACK", nth=2),
                DropRule(retransmission=1),
            )
        },
    ),
    ("duplicate: 1%", {"duplicate": Chance(probability=0.01)}),
    (
        "duplicate: {probability: 1%, correlation: 25%}",
        {"duplicate": Chance(probability=0.01, correlation=0.25)},
    ),
    ("reorder: 5%", {"reorder": Reorder(probability=0.05)}),
    (
        "reorder: {probability: 5%, correlation: 50%, gap: 5}",
        {"reorder": Reorder(probability=0.05, correlation=0.5, gap=5)},
    ),
    ("corrupt: 0.1%", {"corrupt": Corrupt(probability=0.001)}),
    (
        "corrupt: {probability: 0.1%, where: payload}",
        {"corrupt": Corrupt(probability=0.001, where="payload")},
    ),
]
QUEUES = [
    ("64KiB", Queue(limit=QueueLimit(65536, "bytes"))),
    ("{limit: 20 packets}", Queue(limit=QueueLimit(20, "packets"))),
    ("{aqm: red, ecn: true}", Queue(aqm=Red(), ecn=True)),
    (
        "{aqm: {discipline: red, minimum: 10kB, maximum: 30kB, probability: 2%, weight: 0.01}}",
        Queue(aqm=Red(minimum=10_000, maximum=30_000, probability=0.02, weight=0.01)),
    ),
    ("{aqm: codel}", Queue(aqm=Codel())),
    (
        "{aqm: {discipline: codel, target: 10ms, interval: 200ms}}",
        Queue(aqm=Codel(target=0.01, interval=0.2)),
    ),
    ("{aqm: fq_codel}", Queue(aqm=KernelAqm(name="fq_codel"))),
    ("{aqm: {discipline: cake}}", Queue(aqm=KernelAqm(name="cake"))),
]


@pytest.mark.parametrize(("key", "fields"), MEANINGS)
def test_what_a_key_means_for_both_directions_and_for_one(key: str, fields: dict[str, Any]) -> None:
    both = link(key)
    assert both.forward == both.reverse == Impairments(**fields)
    one = link(f"reverse: {{{key}}}")
    assert (one.forward, one.reverse) == (Impairments(), Impairments(**fields))


@pytest.mark.parametrize(("value", "queue"), QUEUES)
def test_what_a_queue_means(value: str, queue: Queue) -> None:
    assert link(f"rate: 10mbit\nqueue: {value}").forward.queue == queue


def test_a_direction_replaces_what_both_have_in_whatever_shape_it_is() -> None:
    found = link(
        f"rate: {{trace: {TINY}}}\nloss: {{model: state, p13: 1%}}\n"
        "forward: {rate: 1mbit, loss: 2%}"
    )
    assert found.forward == Impairments(rate=1e6, loss=0.02)
    assert found.reverse.rate_trace is not None
    assert found.reverse.loss_model == FourState(p13=0.01)


def test_a_schedule_has_its_changes_in_base_units() -> None:
    found = link(
        "schedule: [{at: 3s, rate: 10mbit}, {at: 6s, cut: true, direction: forward}, "
        "{at: 8s, restore: true, loss: {model: state, p13: 1%}}]"
    )
    assert found.schedule == (
        ScheduledChange(at=3.0, changes={"rate": 1e7, "rate_trace": None}),
        ScheduledChange(at=6.0, cut=True, direction="forward"),
        ScheduledChange(
            at=8.0, cut=False, changes={"loss": 0.0, "loss_model": FourState(p13=0.01)}
        ),
    )
    assert found.needs_emulator


def test_a_schedule_and_a_log_reach_the_plan() -> None:
    planned = plan(loads(PAIR + "    log: true\n    schedule: [{at: 1s, cut: true}]\n")).links[0]
    assert planned.log
    assert planned.emulated
    assert planned.schedule == (ScheduledChange(at=1.0, cut=True),)


def test_an_emulator_is_a_word_or_has_settings() -> None:
    named = loads(PAIR.replace("nodes", "emulator: userspace\nnodes", 1))
    assert (named.emulator, named.emulator_processes) == ("userspace", 1)
    settings = "emulator: {kind: userspace, processes: 2, max_lateness: 8ms}\nnodes"
    topology = loads(PAIR.replace("nodes", settings, 1))
    found = topology.emulator, topology.emulator_processes, topology.max_lateness
    assert found == ("userspace", 2, 0.008)


FAULTS = [
    ("rate: {trace: missing.trace}", "rate.trace: missing.trace cannot be read: No such file"),
    ("rate: {trace: /dev/zero}", "rate.trace: /dev/zero is not an ordinary file"),
    ('rate: {trace: "\\0"}', "cannot be read"),
    ("rate: [1mbit]", "rate: expected a rate such as 100mbit or 2.5gbit, or a mapping (`trace:"),
    ("forward: {rate: {trace: nowhere}}", "forward.rate.trace: nowhere cannot be read"),
    ("overhead: -1", "overhead: expected a whole number from 0 to 65536"),
    ("jitter: {distribution: normal}", "jitter: the key 'spread' is missing"),
    ("jitter: {spread: 5ms, distribution: gauss}", "distribution: expected one of normal, uni"),
    ("jitter: {spread: 2h}", "jitter.spread: expected 0 to 1h, got 2h"),
    ("loss: {p: 1%}", "loss: the key 'model' is missing, which says what it is: gilbert-ell"),
    ("loss: {model: gilbert}", "loss.model: expected one of gilbert-elliott or state"),
    ("loss: {model: gilbert-elliott, q: 1%, p: 0}", "unknown key 'q' in a gilbert-elliott"),
    ("loss: {model: state, p13: 60%, p14: 50%}", "loss: p13 and p14 come to 1.1, more than"),
    ("loss: {model: state, p13: 1%, p31: 60%, p32: 50%}", "loss: p31 and p32 come to 1.1"),
    ("drop: [{}]", "drop[0]: expected exactly one of packet, data_segment, retransmission or"),
    ("drop: [{packet: 1, flags: SYN}]", "drop[0]: expected exactly one of"),
    ("drop: [{packet: 1, nth: 2}]", "drop[0].nth: only `flags` are counted by `nth`"),
    ("drop: [{flags: PUSH}]", "drop[0].flags: expected TCP flags such as SYN"),
    ("drop: [{packet: 1}, {packet: 0}]", "drop[1].packet: expected a whole number from 1"),
    ("queue: {aqm: red}", "queue.aqm: without a rate nothing ever waits"),
    ("rate: 1mbit\n    queue: {ecn: true}", "queue.ecn: a drop-tail queue has nothing to mark"),
    ("rate: 1mbit\n    queue: {aqm: {target: 5ms}}", "queue.aqm: the key 'discipline' is missin"),
    (
        "rate: 1mbit\n    queue: {aqm: {discipline: codel, target: 1s}}",
        "queue.aqm: expected 0 < target < interval, got 1s, 100ms",
    ),
    ("rate: 1mbit\n    queue: {aqm: {discipline: red, minimum: 9}}", "aqm: `minimum` and `max"),
    (
        "rate: 1mbit\n    queue: {aqm: {discipline: red, minimum: 9, maximum: 9}}",
        "queue.aqm: expected minimum < maximum",
    ),
    ("rate: 1mbit\n    queue: {aqm: {discipline: red, weight: 0}}", "aqm.weight: expected more"),
    ("rate: 1mbit\n    queue: {aqm: {discipline: pie, a: 1}}", "key 'a' in a pie; it has no keys"),
    ("schedule: [{cut: true}]", "schedule[0]: the key 'at' is missing"),
    ("schedule: [{at: 1s}]", "schedule[0]: nothing is changed"),
    ("schedule: [{at: 1s, direction: forward}]", "schedule[0]: nothing is changed"),
    ("schedule: [{at: 1s, cut: true, restore: true}]", "schedule[0]: both `cut` and `restore`"),
    ("schedule: [{at: 1s, cut: no}]", "schedule[0].cut: expected true, got 'no'"),
    ("schedule: [{at: 1s, speed: 1}]", "unknown key 'speed' in a change"),
    ("schedule: [{at: 1s, delay: 2h}]", "schedule[0].delay: expected 0 to 1h"),
    ("schedule: [{at: 1s, queue: 50ms}]", "schedule[0].queue: a limit of a duration needs a rate"),
    (
        "rate: 1mbit\n    queue: 50ms\n    schedule: [{at: 1s, rate: {trace: nowhere}}]",
        "schedule[0].rate.trace: nowhere cannot be read",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("key", "told"), FAULTS)
def test_a_fault_is_told_once_with_its_line(key: str, told: str) -> None:
    (line,) = problems(f"{PAIR}    {key}\n")
    assert line.startswith(f"t.yaml:{5 + key.count(chr(10))}: links[0].")
    assert told in line


def test_an_emulator_that_may_never_be_late_is_refused() -> None:
    (line,) = problems(PAIR.replace("nodes", "emulator: {max_lateness: 0}\nnodes", 1))
    assert line.startswith("t.yaml:2: emulator.max_lateness: expected a duration above 0")


def test_a_change_is_judged_in_the_state_that_it_finds() -> None:
    changes = "[{at: 2s, queue: 50ms}, {at: 1s, rate: 1mbit}]"
    assert link(f"schedule: {changes}")
    (line,) = problems(PAIR + f"    schedule: {changes.replace('1s', '3s')}\n")
    assert "schedule[0].queue: a limit of a duration needs a rate" in line


def test_a_trace_is_found_beside_its_topology_and_its_faults_have_a_line(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(PAIR + "    rate: {trace: sub/rate.trace}\n")
    (tmp_path / "sub").mkdir()
    trace = tmp_path / "sub" / "rate.trace"
    trace.write_text("# a comment\n1\n3\n")
    assert load(path).links[0].forward.rate_trace == RateTrace((1, 3))
    trace.write_text("1\nx\n")
    with pytest.raises(TopologyError) as caught:
        load(path)
    (line,) = caught.value.problems
    assert line.startswith(f"{path}:5: links[0].rate.trace: {trace}:2: expected a whole number")


def test_a_trace_that_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not an ordinary file" in problems(f"{PAIR}    rate: {{trace: {tmp_path}/pipe}}\n")[0]
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(MAX_TRACE_BYTES + 1)
    assert "too large" in problems(f"{PAIR}    rate: {{trace: {tmp_path}/huge}}\n")[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": 1.5},
        {"loss": 0.1, "loss_model": GilbertElliott(p=0.1)},
        {"loss_model": GilbertElliott(p=2)},
        {"jitter": Jitter(spread=-1)},
        {"reorder": Reorder(probability=0.5, gap=0)},
        {"overhead": -1},
        {"rate": 1e6, "rate_trace": RateTrace((1,))},
        {"rate_trace": RateTrace((3, 1))},
        {"rate_trace": RateTrace(())},
        {"drop": (DropRule(flags="syn"),)},
        {"schedule": (ScheduledChange(at=-1.0),)},
        {"schedule": (ScheduledChange(at=1.0, changes={"speed": 1}),)},
        {"schedule": (ScheduledChange(at=1.0, direction="up"),)},  # type: ignore[arg-type]
    ],
)
def test_what_python_makes_is_checked_too(changes: dict[str, Any]) -> None:
    topology = loads(PAIR)
    check(topology)
    with pytest.raises(TopologyError):
        check(with_link(topology, "a", "b", **changes))


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"delay": "50ms"}, {"delay": 0.05}),
        ({"delay": 0.05, "loss": 1}, {"delay": 0.05, "loss": 1.0, "loss_model": None}),
        ({"rate": None}, {"rate": None, "rate_trace": None}),
        ({"rate": "1mbit"}, {"rate": 1e6, "rate_trace": None}),
        (
            {"rate": {"trace": str(TINY)}},
            {"rate": None, "rate_trace": RateTrace((0, 1, 1, 5))},
        ),
        ({"rate": RateTrace((5,))}, {"rate": None, "rate_trace": RateTrace((5,))}),
        ({"queue": "10 packets"}, {"queue": Queue(limit=QueueLimit(10, "packets"))}),
        ({"queue": {"aqm": "red"}}, {"queue": Queue(aqm=Red())}),
        ({"queue": Queue(aqm=Codel())}, {"queue": Queue(aqm=Codel())}),
        ({"jitter": 0.002}, {"jitter": Jitter(spread=0.002)}),
        ({"jitter": None}, {"jitter": None}),
        ({"jitter": 0}, {"jitter": None}),
        ({"duplicate": "1%"}, {"duplicate": Chance(probability=0.01)}),
        (
            {"loss": {"model": "gilbert-elliott", "p": 0.01}},
            {"loss": 0.0, "loss_model": GilbertElliott(p=0.01)},
        ),
        ({"loss": FourState(p13=0.5)}, {"loss": 0.0, "loss_model": FourState(p13=0.5)}),
        ({"drop": [{"packet": 3}]}, {"drop": (DropRule(packet=3),)}),
        ({"drop": [DropRule(packet=3)]}, {"drop": (DropRule(packet=3),)}),
        ({"drop": []}, {"drop": ()}),
        ({"corrupt": {"probability": 0.5}}, {"corrupt": Corrupt(probability=0.5)}),
    ],
)
def test_a_running_link_is_told_the_same_as_yaml(
    changes: dict[str, Any], fields: dict[str, Any]
) -> None:
    assert parse_changes(changes) == fields


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dely": 1}, "there is no impairment 'dely'; did you mean 'delay'"),
        ({"queue": 100}, "queue: expected a queue limit"),
        ({"queue": Jitter(spread=1.0)}, "queue: "),
        ({"jitter": {"spread": "5 parsecs"}}, "jitter.spread: expected a duration"),
        ({"drop": [{"packet": "x"}]}, r"drop\[0\].packet: expected a whole number"),
        ({"drop": [Jitter(spread=1.0)]}, "expected a mapping"),
        ({"drop": None}, "drop: expected a list"),
        ({"delay": None}, "delay: expected a duration"),
        ({"delay": object()}, "delay: expected a duration"),
        ({"loss": {"model": "x"}}, "loss.model: expected one of"),
        ({"rate": {"trace": "/"}}, "is not an ordinary file"),
    ],
)
def test_a_running_link_refuses_the_same_as_yaml(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidValue, match=told):
        parse_changes(changes)


def test_data_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidValue, match="nested more than"):
        parse_changes({"drop": endless})
