"""The engine runs before ordinary processes, so it must not keep the processor for itself."""

from __future__ import annotations

import os
import socket

import pytest
from test_middlebox_process import Box

from testbed.kernel.processes.confine import prefer_realtime
from testbed.middlebox.process import engine as engine_module
from testbed.middlebox.process.engine import Engine


def may_be_realtime() -> bool:
    """Whether the kernel grants real time to this user; asked by a child."""
    child = os.fork()
    if child == 0:
        os._exit(0 if prefer_realtime() else 1)
    return os.waitpid(child, 0)[1] == 0


@pytest.fixture
def readable():
    near, far = socket.socketpair()
    with near, far:
        far.send(b"x")
        yield near


@pytest.fixture
def naps(monkeypatch):
    """A clock that goes on by 1 us whenever it is read, and the rests that were taken."""

    class Time:
        def __init__(self) -> None:
            self.now = 100.0
            self.taken: list[float] = []

        def monotonic(self) -> float:
            self.now += 1e-6
            return self.now

        def sleep(self, seconds: float) -> None:
            self.taken.append(seconds)
            self.now += seconds

    time = Time()
    monkeypatch.setattr(engine_module, "time", time)
    return time


def test_a_started_box_runs_in_real_time_where_it_may():
    if not may_be_realtime():
        pytest.skip("needs the right to real-time scheduling")
    box = Box()
    try:
        box.start()
        assert os.sched_getscheduler(box.process.pid) == os.SCHED_FIFO
    finally:
        box.close()


def test_a_busy_engine_rests_after_every_stint(naps, readable):
    engine = Engine()
    began = naps.now
    while naps.now < began + 0.1:
        assert engine._wait([readable]) == [readable]
    assert 15 <= len(naps.taken) <= 20
    assert 0.05 < sum(naps.taken) / 0.1 < 0.07


def test_an_engine_that_has_just_slept_does_not_rest(naps, readable, monkeypatch):
    def slept(*_: object) -> tuple[list[object], list[object], list[object]]:
        naps.now += 0.004
        return [readable], [], []

    monkeypatch.setattr(engine_module.select, "select", slept)
    engine = Engine()
    for _ in range(100):
        engine._wait([readable])
    assert naps.taken == []
