"""Quantities of a connection over time; see `TimeSeries`."""

from testbed.trace.analysis.metrics.flight import (
    bytes_in_flight,
    goodput,
    least_congestion_window,
    receive_window,
)
from testbed.trace.analysis.metrics.rto import RtoEstimate, Timeout, estimated_rto, timeouts
from testbed.trace.analysis.metrics.rtt import rtt_by_sequence, rtt_by_time_stamps
from testbed.trace.analysis.metrics.series import TimeSeries

__all__ = [
    "RtoEstimate",
    "TimeSeries",
    "Timeout",
    "bytes_in_flight",
    "estimated_rto",
    "goodput",
    "least_congestion_window",
    "receive_window",
    "rtt_by_sequence",
    "rtt_by_time_stamps",
    "timeouts",
]
