"""Situations that show how much a sender has under way."""

from __future__ import annotations

from testbed.conformance.situations.registry import situation
from testbed.conformance.situations.stage import PEER, Stage

_BURST = 60_000  # bytes: less than any first window of the peer
_LONG = 1_200_000


@situation("no-initial-slow-start")
def begin(stage: Stage) -> None:
    """The subject has more to send than it may send at once."""
    ends = stage.connect()
    stage.pour(ends.subject, ends.peer, _BURST)


@situation("uninitialized-cwnd", strips_mss=True)
def begin_without_mss(stage: Stage) -> None:
    """The peer's SYN/ACK names no MSS, and the subject has much to send."""
    ends = stage.connect()
    stage.pour(ends.subject, ends.peer, _BURST)


@situation("extra-additive-constant")
def grow(stage: Stage) -> None:
    """A segment is lost early, and the window grows for many round trips after that."""
    stage.drop(PEER, data_segment=15)
    ends = stage.connect()
    stage.pour(ends.subject, ends.peer, _LONG)


@situation("no-window-deflation", sack=False)
def recover(stage: Stage) -> None:
    """A segment of a large window is lost, and duplicate acknowledgements repair it."""
    stage.drop(PEER, data_segment=60)
    ends = stage.connect()
    stage.pour(ends.subject, ends.peer, _LONG // 4)
