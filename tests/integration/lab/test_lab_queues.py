"""What TCP makes of a queue."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import pytest
from lab_topologies import pair

from testbed.kernel.tcp_info import TcpInfo
from testbed.lab import Lab
from testbed.topology.model import Impairments, Queue, QueueLimit
from testbed.traffic import stream

OPEN = 0  # the state of a sender that neither recovers from losses nor suspects any
CUBIC_BETA = 0.7  # RFC 9438 section 4.6


def teeth(infos: Sequence[TcpInfo]) -> list[tuple[int, int]]:
    """The window before each recovery from losses, and the one after it, in segments."""
    found, before, recovers = [], 0, False
    for info in infos:
        if info.ca_state != OPEN:
            recovers = True
            continue
        if recovers:
            found.append((before, info.snd_cwnd))
        before, recovers = info.snd_cwnd, False
    return found


def test_the_saw_tooth_of_cubic_before_a_queue_of_one_bdp():
    """The window grows until path and queue are full, shrinks, and still fills the path."""
    rate, delay = 10e6, 0.010
    described = pair(
        left={"congestion_control": "cubic"},
        forward=Impairments(rate=rate, delay=delay, queue=Queue(limit=QueueLimit(1, "bdp"))),
        reverse=Impairments(delay=delay),
    )
    with Lab(described) as lab:
        found = stream(lab["a"], lab["b"], 4, interval=0.01)
        counted = lab.link("a", "b").counters.forward
    bdp = rate * 2 * delay / 8 / 1514
    peaks, troughs = zip(*teeth([one.info for one in found.samples])[1:], strict=True)
    assert len(peaks) >= 3
    # The highest: where the machine stalls, a burst fills the queue before its time.
    assert max(peaks) == pytest.approx(2 * bdp, rel=0.15)
    ratios = [trough / peak for peak, trough in zip(peaks, troughs, strict=True)]
    assert statistics.median(ratios) == pytest.approx(CUBIC_BETA, abs=0.06)
    assert counted.queue_high_water == pytest.approx(bdp, abs=1)
    assert counted.dropped["queue"] > 0
    assert found.goodput > 0.85 * rate
