"""The processors of helper processes."""

from __future__ import annotations

import pytest

from testbed.kernel.placement import Placement, placements


@pytest.mark.parametrize(
    ("cpus", "processes", "first", "wanted"),
    [
        ({0, 1}, 1, 0, [0]),
        ({0, 1}, 1, 1, [1]),
        ({0, 1}, 1, 4321, [1]),
        ({7, 2, 4, 5}, 3, 3, [7, 2, 4]),
        ({0, 1}, 0, 0, []),
    ],
)
def test_every_process_has_its_own(cpus, processes, first, wanted):
    assert [one.cpu for one in placements(cpus, processes, first)] == wanted


def test_those_that_are_left_take_in_what_the_processes_send():
    left = (0, 2)
    assert placements({0, 2, 5, 7}, 2, first=2) == [Placement(5, left), Placement(7, left)]


@pytest.mark.parametrize(("cpus", "processes"), [({3}, 1), ({0, 1}, 2), ({0, 1}, 3), (set(), 2)])
def test_without_one_left_there_are_no_placements(cpus, processes):
    assert placements(cpus, processes) == [None] * processes
