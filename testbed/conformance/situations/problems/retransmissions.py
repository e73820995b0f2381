"""Situations that show what is sent again, and how much at once."""

from __future__ import annotations

from testbed.conformance.situations.registry import situation
from testbed.conformance.situations.stage import PEER, Stage

_MUCH = 1_500_000  # bytes
_BEGINNING = 0.45  # seconds: some round trips
_OUTAGE = 2.5  # seconds: the first repetitions are lost, too


def _lose_a_flight(stage: Stage) -> None:
    ends = stage.connect()
    pouring = stage.in_background(lambda: stage.pour(ends.subject, ends.peer, _MUCH))
    stage.wait(_BEGINNING)
    stage.cut(toward=PEER)
    stage.wait(_OUTAGE)
    stage.restore()
    pouring.join()


@situation("no-slow-start-after-rto")
def lose_a_flight(stage: Stage) -> None:
    """The path to the peer is cut for 2.5 s in the middle of a transfer, until after a time-out."""
    _lose_a_flight(stage)


@situation("multiple-packet-retransmission")
def lose_a_flight_too(stage: Stage) -> None:
    """The path to the peer is cut for 2.5 s in the middle of a transfer, until after a time-out."""
    _lose_a_flight(stage)


@situation("inconsistent-retransmission")
def lose_one(stage: Stage) -> None:
    """The third segment of data is lost and has to be sent again."""
    stage.drop(PEER, data_segment=3)
    ends = stage.connect()
    stage.pour(ends.subject, ends.peer, 20_000)
