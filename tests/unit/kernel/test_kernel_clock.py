from __future__ import annotations

from pathlib import Path

import pytest

from testbed.kernel import clock
from testbed.kernel.processes.confine import prefer_realtime


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The kernel's file that names its clock source."""
    file = tmp_path / "current_clocksource"
    monkeypatch.setattr(clock, "_SOURCE", file)
    clock.clock_name.cache_clear()
    yield file
    clock.clock_name.cache_clear()


def test_time_travel_is_the_virtual_clock(source: Path):
    source.write_text("time-travel-clock\n")
    assert clock.clock_name() == "virtual"
    assert clock.waits_are_exact()


@pytest.mark.parametrize("name", ["tsc\n", "jiffies\n", None])
def test_every_other_source_is_the_real_clock(source: Path, name: str | None):
    if name is not None:
        source.write_text(name)
    assert clock.clock_name() == "real"
    assert not clock.waits_are_exact()


def test_no_process_takes_real_time_priority_where_waits_are_exact(source: Path):
    source.write_text("time-travel-clock\n")
    assert not prefer_realtime()
