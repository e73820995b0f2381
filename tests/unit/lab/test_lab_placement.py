"""The processors of helper processes."""

from __future__ import annotations

import pytest

from testbed.lab.placement import Place, Placement


def taken(placement: Placement, count: int) -> list[int | None]:
    places = [placement.take() for _ in range(count)]
    return [None if place is None else place.cpu for place in places]


@pytest.mark.parametrize(
    ("cpus", "first", "wanted"),
    [
        ({0, 1}, 0, [0, 1, 0, 1]),
        ({0, 1}, 1, [1, 0, 1, 0]),
        ({7, 2, 4}, 4, [4, 7, 2, 4]),
        ({3}, 0, [None] * 4),
        (set(), 5, [None] * 4),
    ],
)
def test_they_are_dealt_out_in_turn(cpus, first, wanted):
    assert taken(Placement(cpus, first), 4) == wanted


def test_all_others_take_in_what_a_process_sends():
    assert Placement({0, 1, 5}, first=1).take() == Place(1, frozenset({0, 5}))
