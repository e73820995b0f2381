"""What is under way, what may be, and what arrives."""

from __future__ import annotations

import numpy as np

from testbed.trace.analysis.analysis import Analysis
from testbed.trace.analysis.metrics.series import TimeSeries
from testbed.trace.analysis.progress import NOTHING


def bytes_in_flight(analysis: Analysis, sender: int) -> TimeSeries:
    """Sent by a side and not yet acknowledged, as seen here, whenever that changes."""
    progress = analysis.progress
    sent, acked = progress.sent[sender], progress.acked[1 - sender]
    start = int(progress.position[progress.side == sender].min(initial=0))
    flight = np.maximum(sent - np.maximum(acked, start), 0)
    flight[sent == NOTHING] = 0
    rows = np.flatnonzero(np.diff(flight, prepend=-1))
    return TimeSeries(analysis.table.time[rows], flight[rows])


def least_congestion_window(analysis: Analysis, sender: int) -> TimeSeries:
    """A lower bound of the congestion window: what is in flight with each new data segment.

    It is the window itself while nothing else bounds the sender (neither the receiver's window nor
    a want of data). In recovery it is no bound: what was lost counts as in flight.
    """
    progress = analysis.progress
    fresh = (progress.side == sender) & (progress.spans > 0) & ~progress.strays
    rows = np.flatnonzero(fresh & (progress.end > progress.before(progress.sent)))
    flight = progress.end[rows] - np.maximum(progress.acked[1 - sender][rows], 0)
    return TimeSeries(analysis.table.time[rows], np.maximum(flight, 0))


def receive_window(analysis: Analysis, receiver: int) -> TimeSeries | None:
    """Bytes that a side offers; None where the scale was not captured (RFC 7323 section 2.3)."""
    progress = analysis.progress
    if progress.scale[0, receiver] < 0:
        return None
    rows = np.flatnonzero((progress.side == receiver) & (progress.window >= 0))
    return TimeSeries(analysis.table.time[rows], progress.window[rows])


def goodput(analysis: Analysis, sender: int, *, intervals: int = 100) -> TimeSeries:
    """bit/s of what the other side acknowledged, in so many intervals from first to last segment.

    The time of each is its end.
    """
    progress, time = analysis.progress, analysis.table.time
    acked = np.maximum(progress.acked[1 - sender], 1) - 1
    begin, end = int(time.min()), int(time.max())
    length = max(1, -(-(end - begin) // intervals))
    edges = begin + length * np.arange(1, intervals + 1)
    order = np.argsort(time, kind="stable")
    last = np.searchsorted(time[order], edges, side="right") - 1
    reached = np.maximum.accumulate(acked[order])[last]
    return TimeSeries(edges, np.diff(reached, prepend=0) * 8e9 / length)
