"""Which device packets leave by."""

from __future__ import annotations

import os

import pytest

from testbed.kernel.load_sharing import LoadSharing
from testbed.middlebox.process import output as outlets_module
from testbed.middlebox.process.output import QUIET, Output
from testbed.wire.packet import INSIDE, OUTSIDE


@pytest.fixture
def pipes():
    """Four pipes: the direct devices of both sides, then the steered ones."""
    made = [os.pipe() for _ in range(4)]
    yield made
    for pair in made:
        for fd in pair:
            os.close(fd)


class Load(LoadSharing):
    """Is under load when the test says so; the room whenever somebody looks."""

    def __init__(self) -> None:
        super().__init__()
        self.rooms = [1000]
        self.told: list[int] = []

    def room(self, packets: int) -> int:
        return min(packets, self.rooms.pop(0) if len(self.rooms) > 1 else self.rooms[0])

    def handed_over(self, packets: int) -> None:
        self.told.append(packets)


@pytest.fixture
def load():
    return Load()


@pytest.fixture
def naps(monkeypatch):
    taken: list[float] = []
    monkeypatch.setattr(outlets_module.time, "sleep", taken.append)
    return taken


def sent(output: Output, pipes, side: int) -> int:
    """Which of the pipes a packet takes."""
    output.send(side, memoryview(b"packet"))
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


@pytest.fixture
def output(pipes, load):
    writers = [writer for _, writer in pipes]
    return Output(writers[:2], writers[2:], load)


def test_load_and_silence_choose_the_device(output, pipes, load):
    assert [sent(output, pipes, side) for side in (OUTSIDE, INSIDE)] == [0, 1]
    load.pinned = True
    output.choose(0)
    assert [sent(output, pipes, side) for side in (OUTSIDE, INSIDE)] == [2, 3]
    load.pinned = False
    output.choose(QUIET - 1)
    assert sent(output, pipes, INSIDE) == 3
    output.choose(QUIET)
    assert [sent(output, pipes, side) for side in (OUTSIDE, INSIDE)] == [0, 1]


def test_it_waits_until_the_others_have_room(output, load, naps):
    load.pinned = True
    output.choose(0)
    output.pace(64, 64)
    assert naps == []
    load.rooms = [0, 63, 64]
    output.pace(7, 64)
    assert load.told == [64, 7] and len(naps) == 2


def test_it_does_not_wait_for_ever(output, load, naps):
    load.pinned = True
    output.choose(0)
    load.rooms = [0]
    output.pace(64, 64)
    assert 0 < sum(naps) < 0.02


def test_it_waits_for_nobody_while_it_does_the_work_itself(output, load, naps):
    load.rooms = [0]
    output.pace(64, 64)
    assert load.told == [] and naps == []


def test_without_steered_devices_nothing_changes(pipes):
    output = Output([writer for _, writer in pipes[:2]])
    output.choose(0)
    assert sent(output, pipes, INSIDE) == 1
