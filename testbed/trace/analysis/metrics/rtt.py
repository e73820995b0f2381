"""Round trip times over time, from the capture to the receiver and back."""

from __future__ import annotations

from testbed.trace.analysis.analysis import Analysis
from testbed.trace.analysis.metrics.series import TimeSeries
from testbed.trace.analysis.samples import by_sequence, by_time_stamps


def rtt_by_sequence(analysis: Analysis, sender: int) -> TimeSeries:
    """ns from data that side `sender` sent once to its ACK, at the time of the ACK.

    What was sent again gives no sample (Karn's algorithm, RFC 6298 section 3). At the sender's
    vantage point that is the whole round trip, elsewhere the part to the receiver and back.
    """
    data, acks = by_sequence(analysis.progress, analysis.classes, sender)
    time = analysis.table.time
    return TimeSeries(time[acks], time[acks] - time[data])


def rtt_by_time_stamps(analysis: Analysis, sender: int) -> TimeSeries:
    """The same by TCP's time stamps (RFC 7323 section 4), also of what was sent again."""
    data, acks = by_time_stamps(analysis.progress, sender)
    time = analysis.table.time
    return TimeSeries(time[acks], time[acks] - time[data])
