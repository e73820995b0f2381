"""The engine runs before ordinary processes, so it must not keep the processor for itself."""

from __future__ import annotations

import os

import pytest
from test_middlebox_process import Box

from testbed.kernel.processes.confine import prefer_realtime


def may_be_realtime() -> bool:
    """Whether the kernel grants real time to this user; asked by a child."""
    child = os.fork()
    if child == 0:
        os._exit(0 if prefer_realtime() else 1)
    return os.waitpid(child, 0)[1] == 0


def test_a_started_box_runs_in_real_time_where_it_may():
    if not may_be_realtime():
        pytest.skip("needs the right to real-time scheduling")
    box = Box()
    try:
        box.start()
        assert os.sched_getscheduler(box.process.pid) == os.SCHED_FIFO
    finally:
        box.close()
