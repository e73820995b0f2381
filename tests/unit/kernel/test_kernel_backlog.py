"""Room in the backlogs of processors, from made-up states of the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.kernel.devices import backlog
from testbed.kernel.devices.backlog import Backlog


@pytest.fixture
def state(monkeypatch, tmp_path):
    """Writes what waits for each processor, as the kernel tells it; the limit is 300 packets."""
    told = tmp_path / "softnet_stat"
    limit = tmp_path / "netdev_max_backlog"
    limit.write_text("300\n")
    monkeypatch.setattr(backlog, "_STATE", str(told))
    monkeypatch.setattr(backlog, "_LIMIT", limit)

    def write(waiting: dict[int, int]) -> Path:
        rows = [
            " ".join(f"{number:08x}" for number in (7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, count, cpu))
            for cpu, count in waiting.items()
        ]
        told.write_text("\n".join(rows) + "\n")
        return told

    return write


def test_a_writer_may_use_a_part_of_what_the_fullest_backlog_has_left(state):
    state({0: 299, 1: 10, 3: 40})
    room = Backlog([1, 3]).room(1000)
    assert 0 < room < 260
    state({0: 0, 1: 11, 3: 41})
    assert Backlog([1, 3]).room(1000) == room - 1


def test_what_was_seen_holds_until_it_is_used_up(state):
    state({1: 0})
    gauge = Backlog([1])
    most = gauge.room(1000)
    state({1: 1000})
    gauge.filled(most - 10)
    assert gauge.room(10) == 10
    gauge.filled(10)
    assert gauge.room(1) == 0
    state({1: 0})
    assert gauge.room(5) == 5


def test_a_processor_that_is_away_holds_nothing_up(state):
    state({0: 299})
    assert Backlog([1]).room(64) == 64


def test_the_kernels_usual_limit_counts_where_it_is_not_told(state, monkeypatch, tmp_path):
    monkeypatch.setattr(backlog, "_LIMIT", tmp_path / "not there")
    assert backlog.backlog_limit() == 1000


def test_a_kernel_that_tells_no_backlogs_is_an_error(state):
    state({0: 0}).write_text("00000000 00000000 00000000\n")
    with pytest.raises(OSError, match="has no backlogs"):
        Backlog([0])


def test_the_real_one_can_be_read():
    assert Backlog([0]).room(1) in (0, 1)
