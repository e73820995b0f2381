"""The retransmission timer as RFC 6298 would set it, and as it was observed."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from testbed.trace.analysis.analysis import Analysis
from testbed.trace.analysis.classes import RepeatReason
from testbed.trace.analysis.metrics.rtt import rtt_by_sequence
from testbed.trace.analysis.metrics.series import TimeSeries
from testbed.trace.analysis.samples import advancing_acks

INITIAL_RTO: Final = 1_000_000_000
"""ns before the first round trip is known (RFC 6298 section 2.1)."""
LEAST_RTO: Final = 1_000_000_000
"""ns; RFC 6298 section 2.4. Linux has 200 ms."""
LARGEST_RTO: Final = 120_000_000_000
"""ns; TCP_RTO_MAX of Linux. RFC 6298 section 2.5 asks for at least a minute."""
_GAIN, _VARIATION_GAIN, _VARIATIONS = 1 / 8, 1 / 4, 4


class RtoEstimate(msgspec.Struct, frozen=True):
    """What RFC 6298 section 2 makes of the round trips: all in ns."""

    smoothed: TimeSeries
    variation: TimeSeries
    rto: TimeSeries


class Timeout(msgspec.Struct, frozen=True):
    """One segment that was sent again since a timer had fired.

    row: in the table. waited: ns since the timer was started, by RFC 6298 section 5: at the last
    ACK of something new, or when this data was sent last. expected: ns by RFC 6298, doubled for
    each time-out before it without an ACK between them (section 5.5): `backoff` of them.
    """

    row: int
    waited: int
    expected: int
    backoff: int


def estimated_rto(analysis: Analysis, sender: int, *, least: int = LEAST_RTO) -> RtoEstimate:
    """Smoothed round trip, its variation, and the time-out, after each sample of a side."""
    samples = rtt_by_sequence(analysis, sender)
    smoothed, variation = np.zeros(len(samples)), np.zeros(len(samples))
    average = spread = 0.0
    for index, sample in enumerate(samples.value.tolist()):
        if index:
            spread += (abs(average - sample) - spread) * _VARIATION_GAIN
            average += (sample - average) * _GAIN
        else:
            average, spread = float(sample), sample / 2
        smoothed[index], variation[index] = average, spread
    rto = np.clip(smoothed + _VARIATIONS * variation, least, LARGEST_RTO)
    return RtoEstimate(*(TimeSeries(samples.time, one) for one in (smoothed, variation, rto)))


def timeouts(analysis: Analysis, sender: int, *, least: int = LEAST_RTO) -> tuple[Timeout, ...]:
    """The time-outs of a side, each beside what RFC 6298 would have waited."""
    progress, time = analysis.progress, analysis.table.time
    estimate = estimated_rto(analysis, sender, least=least).rto
    advances = advancing_acks(progress, sender)
    data = np.flatnonzero((progress.side == sender) & (progress.spans > 0) & ~progress.strays)
    found: list[Timeout] = []
    backoff, of = 0, -1
    for repeat in analysis.repeats_of(sender):
        if repeat.reason is not RepeatReason.TIMEOUT or not repeat.timer:
            continue
        row = repeat.row
        acked = int(np.searchsorted(advances, row)) - 1
        backoff = backoff + 1 if acked == of and found else 0
        of = acked
        earlier = data[data < row]
        same = earlier[progress.position[earlier] == progress.position[row]]
        starts = [int(time[same[-1]])] if len(same) else []
        starts += [int(time[advances[acked]])] if acked >= 0 else []
        known = int(np.searchsorted(estimate.time, time[row])) - 1
        base = INITIAL_RTO if known < 0 else int(estimate.value[known])
        waited = int(time[row]) - max(starts, default=int(time[row]))
        found.append(Timeout(row, waited, min(base << backoff, LARGEST_RTO), backoff))
    return tuple(found)
