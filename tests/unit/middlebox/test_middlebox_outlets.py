"""Which device packets leave by, and where the process runs meanwhile."""

from __future__ import annotations

import os

import pytest

from testbed.middlebox.process import outlets as outlets_module
from testbed.middlebox.process.outlets import QUIET, Outlets
from testbed.wire.packet import INSIDE, OUTSIDE


@pytest.fixture
def pipes():
    """Four pipes: the direct devices of both sides, then the steered ones."""
    made = [os.pipe() for _ in range(4)]
    yield made
    for pair in made:
        for fd in pair:
            os.close(fd)


@pytest.fixture
def everywhere():
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


def sent(outlets: Outlets, pipes, side: int) -> int:
    """Which of the pipes a packet takes."""
    outlets.send(side, memoryview(b"packet"))
    found = []
    for number, (reader, _) in enumerate(pipes):
        os.set_blocking(reader, False)
        try:
            if os.read(reader, 100) == b"packet":
                found.append(number)
        except BlockingIOError:
            continue
    (one,) = found
    return one


def outlets_of(pipes, cpu: int) -> Outlets:
    writers = [writer for _, writer in pipes]
    return Outlets(writers[:2], writers[2:], cpu, [0])


def test_load_and_silence_choose_the_device(pipes, everywhere):
    outlets = outlets_of(pipes, max(everywhere))
    assert [sent(outlets, pipes, side) for side in (OUTSIDE, INSIDE)] == [0, 1]
    outlets.loaded()
    assert [sent(outlets, pipes, side) for side in (OUTSIDE, INSIDE)] == [2, 3]
    outlets.slept(0.9 * QUIET)
    assert sent(outlets, pipes, INSIDE) == 3
    outlets.slept(QUIET)
    assert [sent(outlets, pipes, side) for side in (OUTSIDE, INSIDE)] == [0, 1]


def test_the_process_keeps_to_its_processor_under_load_only(pipes, everywhere):
    outlets = outlets_of(pipes, max(everywhere))
    assert os.sched_getaffinity(0) == everywhere
    outlets.loaded()
    assert os.sched_getaffinity(0) == {max(everywhere)}
    outlets.slept(QUIET)
    assert os.sched_getaffinity(0) == everywhere


@pytest.fixture
def backlog(monkeypatch):
    """The room that there is whenever somebody looks; and the naps taken meanwhile."""

    class Rooms:
        def __init__(self) -> None:
            self.rooms = [1000]
            self.naps: list[float] = []
            self.told: list[int] = []

        def room(self, wanted: int) -> int:
            return min(wanted, self.rooms.pop(0) if len(self.rooms) > 1 else self.rooms[0])

        def filled(self, packets: int) -> None:
            self.told.append(packets)

    made = Rooms()
    monkeypatch.setattr(outlets_module, "Backlog", lambda receivers: made)
    monkeypatch.setattr(outlets_module.time, "sleep", made.naps.append)
    return made


def test_it_waits_until_the_others_have_room(pipes, everywhere, backlog):
    outlets = outlets_of(pipes, max(everywhere))
    outlets.loaded()
    outlets.pace(64, 64)
    assert backlog.naps == []
    backlog.rooms = [0, 63, 64]
    outlets.pace(7, 64)
    assert backlog.told == [64, 7] and len(backlog.naps) == 2


def test_it_does_not_wait_for_ever(pipes, everywhere, backlog):
    outlets = outlets_of(pipes, max(everywhere))
    outlets.loaded()
    backlog.rooms = [0]
    outlets.pace(64, 64)
    assert 0 < sum(backlog.naps) < 0.02


def test_it_waits_for_nobody_while_it_does_the_work_itself(pipes, everywhere, backlog):
    outlets = outlets_of(pipes, max(everywhere))
    backlog.rooms = [0]
    outlets.pace(64, 64)
    assert backlog.told == [] and backlog.naps == []


def test_a_processor_that_was_taken_away_is_done_without(pipes, everywhere):
    outlets = outlets_of(pipes, 1 << 16)
    outlets.loaded()
    outlets.loaded()
    assert sent(outlets, pipes, INSIDE) == 1
    assert os.sched_getaffinity(0) == everywhere


def test_without_steered_devices_nothing_changes(pipes, everywhere):
    outlets = Outlets([writer for _, writer in pipes[:2]])
    outlets.loaded()
    assert sent(outlets, pipes, INSIDE) == 1
    assert os.sched_getaffinity(0) == everywhere
