"""Schedules and logs of fates, in the real emulator process."""

from __future__ import annotations

import contextlib
import csv
import time

import pytest
from emulator_frames import segment
from emulator_process import DEADLINE, Started, attach, settled

from testbed.errors import LabError
from testbed.topology.model import (
    Chance,
    DropRule,
    Impairments,
    Queue,
    QueueLimit,
    RateTrace,
    ScheduledChange,
)


def test_a_schedule_changes_the_link_at_its_times(emulator, cable):
    a, b = cable
    emulator.client.set("cable", "forward", Impairments(loss=0.25))
    before = time.time_ns()
    emulator.client.schedule(
        "cable",
        [
            ScheduledChange(at=0.2, cut=True),
            ScheduledChange(at=0.1, direction="forward", changes={"delay": 0.01}),
            ScheduledChange(at=0.3, cut=False, changes={"loss": 0.0}),
        ],
    )
    journal = await_journal(emulator, "cable", 3)
    assert [change.at for change in journal] == [0.1, 0.2, 0.3]
    for change in journal:
        assert change.error == ""
        assert change.at <= (change.time_ns - before) / 1e9 < change.at + 5
    assert emulator.client.read_back("cable") == (Impairments(delay=0.01), Impairments())
    a.send(b"x")
    assert b.recv(10) == b"x"


def test_a_scheduled_change_is_noticed_by_frames_that_wait(emulator, cable):
    """The second frame, still in the queue, gets the short delay and overtakes the first."""
    a, b = cable
    emulator.client.set("cable", "forward", Impairments(rate=80e3, delay=8.0))
    for name in (b"first", b"second"):
        a.send(name.ljust(1000))
    settled(emulator, "cable", packets_in=2)
    overtaking = {"delay": 0.0, "jitter": {"spread": 0.0, "reorder": True}}
    emulator.client.schedule("cable", [ScheduledChange(at=0.02, changes=overtaking)])
    assert b.recv(2000).strip() == b"second"


def await_journal(emulator: Started, name: str, length: int):
    limit = time.monotonic() + DEADLINE
    while time.monotonic() < limit:
        journal = emulator.client.journal(name)
        if len(journal) >= length:
            return journal
    raise AssertionError(f"{len(journal)} changes of {length} after {DEADLINE} s")


def test_changes_at_one_time_are_applied_in_their_order(emulator, cable):
    changes = [ScheduledChange(at=0.01, changes={"loss": loss}) for loss in (0.1, 0.2, 0.3)]
    emulator.client.schedule("cable", changes)
    await_journal(emulator, "cable", 3)
    assert emulator.client.read_back("cable")[0].loss == 0.3


def test_a_schedule_can_be_replaced(emulator, cable):
    emulator.client.schedule("cable", [ScheduledChange(at=0.5, cut=True)])
    emulator.client.schedule("cable", [ScheduledChange(at=0.7, changes={"loss": 0.5})])
    await_journal(emulator, "cable", 1)
    assert emulator.client.read_back("cable")[0].loss == 0.5
    a, b = cable
    emulator.client.set("cable", "forward", Impairments())
    a.send(b"not cut")
    assert b.recv(10) == b"not cut"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ([ScheduledChange(at=-1)], "scheduled at"),
        ([ScheduledChange(at=1, changes={"speed": 3})], "no impairment speed"),
        ([ScheduledChange(at=1, changes={"delay": "long"})], "emulator: "),
        ([ScheduledChange(at=1, changes={"loss": 2.0})], "loss: expected"),
        (
            [
                ScheduledChange(at=2, changes={"rate_trace": {"opportunities": [1]}}),
                ScheduledChange(at=1, changes={"rate": 1e6}),
            ],
            "one of the two",
        ),
    ],
)
def test_an_impossible_schedule_is_refused_at_once(emulator, cable, changes, says):
    with pytest.raises(LabError, match=says):
        emulator.client.schedule("cable", changes)
    assert emulator.client.journal("cable") == ()


def test_a_change_that_has_become_impossible_is_told_in_the_journal(emulator, cable):
    emulator.client.schedule("cable", [ScheduledChange(at=0.1, changes={"rate": 1e6})])
    trace = Impairments(rate_trace=RateTrace((5,)))
    emulator.client.set("cable", "forward", trace)
    (change,) = await_journal(emulator, "cable", 1)
    assert "one of the two" in change.error
    assert emulator.client.read_back("cable") == (trace, Impairments())


def test_the_fate_of_every_frame_is_logged(emulator, tmp_path):
    path = tmp_path / "fates.csv"
    impaired = Impairments(
        delay=0.01,
        drop=(DropRule(packet=2),),
        duplicate=Chance(probability=1.0),
        rate=8e6,
        queue=Queue(limit=QueueLimit(1, "packets")),
    )
    frame = segment(payload=bytes(946))
    with contextlib.ExitStack() as stack:
        with path.open("wb") as file:
            a, b = attach(emulator, stack, "logged", impaired, log_fd=file.fileno())
        before = time.time_ns()
        a.send(frame)
        assert [b.recv(2000) for _ in range(2)] == [frame, frame]
        a.send(frame)
        a.send(frame)
        a.send(frame)
        settled(emulator, "logged", packets_in=4)
        emulator.client.cut("logged")
        b.send(b"cut")
        limit = time.monotonic() + DEADLINE
        while not (counted := emulator.client.counters("logged")).reverse.dropped["cut"]:
            assert time.monotonic() < limit
        assert counted.log_error == ""
        for _ in range(counted.forward.in_flight + counted.forward.waiting):
            b.recv(2000)
        emulator.client.counters("logged")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    fates = [(row["direction"], int(row["packet"]), row["verdict"]) for row in rows]
    assert fates.count(("forward", 1, "sent")) == 2
    assert fates.count(("forward", 2, "script")) == 1
    assert fates.count(("reverse", 1, "cut")) == 1
    assert fates.count(("forward", 3, "sent")) == 2
    assert ("forward", 4, "queue") in fates
    for row in rows:
        assert before <= int(row["in_ns"]) <= int(row["out_ns"]) <= time.time_ns()
        if row["verdict"] == "sent":
            assert int(row["due_ns"]) - int(row["in_ns"]) >= 11_000_000
            assert int(row["out_ns"]) >= int(row["due_ns"])
            assert int(row["bytes"]) == len(frame)
        else:
            assert row["due_ns"] == ""


def test_the_log_is_complete_when_the_emulator_has_ended(emulator, tmp_path):
    path = tmp_path / "fates.csv"
    with contextlib.ExitStack() as stack:
        with path.open("wb") as file:
            a, b = attach(emulator, stack, "logged", log_fd=file.fileno())
        for _ in range(5):
            a.send(b"x")
            b.recv(10)
        assert emulator.end() == ""
    assert len(path.read_text().splitlines()) == 6


def test_a_full_disk_is_told_and_survived(emulator):
    with contextlib.ExitStack() as stack:
        with open("/dev/full", "wb") as file:  # noqa: PTH123 (a device)
            a, b = attach(emulator, stack, "logged", log_fd=file.fileno())
        a.send(b"x")
        b.recv(10)
        assert "No space left" in emulator.client.counters("logged").log_error
        a.send(b"x")
        assert b.recv(10) == b"x"
