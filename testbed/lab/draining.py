"""Letting what is under way arrive before captures end, so that a trace has both ends of it."""

from __future__ import annotations

import time
from collections.abc import Iterable

from testbed.emulator.counters import DirectionCounters
from testbed.kernel.processes.process import deadline_in, time_left
from testbed.lab.link import LabLink
from testbed.lab.node import LabNode

_LEAST = 0.5
_POLL = 0.002
_QUIET_POLLS = 3


def drain(links: Iterable[LabLink], nodes: Iterable[LabNode]) -> None:
    """Return when the emulated links have been empty for a moment.

    Traffic that never ends is not waited for: no longer than two round trips over all links, and
    half a second. The emulator cannot tell when it is empty, so it is asked again and again. So
    are the middleboxes, though not for their answers: whoever answers has had its turn to carry
    on what lay before it.
    """
    emulated = [link for link in links if link.planned.emulated]
    boxes = [node for node in nodes if node.middlebox is not None]
    if not emulated and not boxes:
        return
    delays = sum(link.planned.forward.delay + link.planned.reverse.delay for link in emulated)
    deadline = deadline_in(_LEAST + 2 * delays)
    quiet = 0
    while quiet < _QUIET_POLLS and time_left(deadline):
        for box in boxes:
            box.counters()
        counters = [link.counters for link in emulated]
        busy = any(_under_way(one.forward) or _under_way(one.reverse) for one in counters)
        quiet = 0 if busy else quiet + 1
        time.sleep(_POLL)


def _under_way(counters: DirectionCounters) -> int:
    return counters.waiting + counters.in_flight
