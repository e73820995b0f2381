"""Whose a stamp is, told by counting; the test plays the kernel that fills the ring."""

from __future__ import annotations

import os
import random
import struct
from collections import deque
from pathlib import Path

import pytest

from testbed.kernel.devices import arrival_stamps
from testbed.kernel.devices.arrival_stamps import (
    MOST_BEHIND,
    REMEMBERED,
    ArrivalStamps,
    stamp_arrivals,
)


class Interface:
    """What a TAP and the program in it do: stamp every frame, then queue it or drop it."""

    def __init__(self, longest_queue: int = 10_000) -> None:
        self._ring = os.memfd_create("ring")
        os.truncate(self._ring, 8 * (1 + REMEMBERED))
        self.stamps = ArrivalStamps(self._ring)
        self._longest = longest_queue
        self._count = 0
        self.queue: deque[int] = deque()
        self.closed = False

    def close(self) -> None:
        os.close(self._ring)

    def stamp(self, time: int) -> None:
        cell = 1 + self._count % REMEMBERED
        os.pwrite(self._ring, struct.pack("Q", time), 8 * cell)
        self._count += 1
        os.pwrite(self._ring, struct.pack("Q", self._count), 0)

    def come(self, *times: int) -> None:
        for time in times:
            self.stamp(time)
            if len(self.queue) < self._longest:
                self.queue.append(time)

    def read(self, most: int = 64) -> tuple[list[int], list[int] | None]:
        """When the next frames really came, and when the stamps say they did."""
        came = [self.queue.popleft() for _ in range(min(most, len(self.queue)))]
        return came, self.stamps.of(len(came), drained=len(came) < most)


@pytest.fixture
def interface():
    made = Interface()
    yield made
    made.close()


def test_every_frame_has_its_stamp_from_the_first_on(interface):
    interface.come(10, 20, 30)
    assert interface.read(2) == ([10, 20], [10, 20])
    interface.come(40)
    assert interface.read() == ([30, 40], [30, 40])


def test_what_is_left_to_be_read_is_known_where_nothing_can_come_meanwhile(interface, monkeypatch):
    interface.come(10, 20, 30)
    assert interface.stamps.unread is None
    monkeypatch.setattr(arrival_stamps, "waits_are_exact", lambda: True)
    assert interface.stamps.unread == 3
    interface.read(2)
    assert interface.stamps.unread == 1
    interface.read(1)
    assert interface.stamps.unread == 1  # whoever is told that there is something finds it


def test_what_is_left_to_be_read_is_not_known_after_a_frame_too_many(interface, monkeypatch):
    monkeypatch.setattr(arrival_stamps, "waits_are_exact", lambda: True)
    interface.queue.append(10)  # one without a stamp
    interface.read(1)
    assert interface.stamps.unread is None
    interface.read(1)
    assert interface.stamps.unread == 1


def test_the_ring_goes_round(interface):
    for start in range(0, 5 * REMEMBERED, 50):
        interface.come(*range(start, start + 50))
        came, stamped = interface.read()
        assert stamped == came


def test_a_frame_that_comes_after_the_last_look_is_not_certain_and_the_next_one_is(interface):
    interface.come(10)
    interface.stamp(20)  # into the queue only when the reader has found nothing more in it
    assert interface.read() == ([10], [10])
    interface.queue.append(20)
    assert interface.read() == ([20], None)
    interface.come(30)
    assert interface.read() == ([30], [30])


def test_stamps_are_not_used_while_too_many_frames_wait(interface):
    interface.come(*range(MOST_BEHIND + 1))
    assert interface.read(64)[1] is None
    while interface.queue:
        assert interface.read(64)[1] is None
    interface.come(10_000)
    assert interface.read() == ([10_000], [10_000])


def test_after_a_drop_no_frame_is_dated_too_early():
    """Bursts that now and then are more than the interface holds, and a reader with pauses."""
    chance = random.Random(1)
    interface = Interface(longest_queue=MOST_BEHIND)
    clock, dated, read = 0, 0, 0
    for _ in range(2000):
        burst = chance.choice((0, 1, 1, 5, 60, 60, 500))
        interface.come(*range(clock, clock + burst))
        clock += burst
        came, stamped = interface.read()
        read += len(came)
        if stamped is not None:
            dated += len(came)
            assert all(stamp >= time for stamp, time in zip(stamped, came, strict=True))
    interface.close()
    assert clock - len(interface.queue) > read, "nothing was dropped"
    assert 0 < dated < read


def test_a_descriptor_that_is_no_ring_is_refused():
    reading, writing = os.pipe()
    try:
        with pytest.raises((OSError, ValueError)):
            ArrivalStamps(reading)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(
    ("offsets", "shifted"),
    [("0 0", False), ("-7 0", True), ("0 5", True), (None, False)],
)
def test_a_clock_of_ones_own_is_noticed(monkeypatch, tmp_path, offsets, shifted):
    file = tmp_path / "timens_offsets"
    if offsets is not None:
        file.write_text(f"monotonic  {offsets}\nboottime  3 0\n")
    monkeypatch.setattr(arrival_stamps, "_CLOCK_OFFSETS", file)
    assert arrival_stamps._clock_is_shifted() is shifted


def test_what_is_no_tap_is_not_stamped():
    with Path(os.devnull).open() as file:
        before = len([*Path("/proc/self/fd").iterdir()])
        assert stamp_arrivals(file.fileno()) is None
        assert len([*Path("/proc/self/fd").iterdir()]) == before
