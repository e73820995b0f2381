"""What a link counts, and how late the emulator is.

`Tally` and `LatenessHistogram` are written to for every frame; the frozen structs are what
leaves the emulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import msgspec

from testbed.emulator.fate import FateLog

#: Why a frame did not arrive. queue: no room; aqm: the queue's discipline; script: a drop rule;
#: tap: the interface at the far end refused it (it was down); overflow: so many waited to be read
#: by the userspace emulator that its own interface had no room, or its cable was out (these have
#: no bytes in `bytes_in`).
CAUSES = ("queue", "aqm", "loss", "script", "cut", "tap", "overflow")

# The histogram: 2048 buckets of 2**12 ns reach up to 2**23 ns.
_SHIFT = 12
_FINE = 2048
_FINE_BITS = 23


class DirectionCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Since the link was added.

    packets_in + duplicated = packets_out + all drops + waiting + in_flight. marked: packets that
    were told of congestion instead of being dropped.

    Bytes count frames from the destination address on, without frame check sequence. waiting:
    packets in the queue; in_flight: packets that have left it. queue_high_water: the most packets
    that ever waited. None: the emulator does not count these.
    """

    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    dropped: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(CAUSES, 0))
    duplicated: int = 0
    reordered: int = 0
    corrupted: int | None = 0
    marked: int = 0
    waiting: int = 0
    in_flight: int = 0
    queue_high_water: int | None = 0


class Lateness(msgspec.Struct, frozen=True, kw_only=True):
    """How long after they were due frames were handed over, in seconds; all links together.

    Percentiles are right to 4 us up to 8 ms and to a factor of two beyond; `maximum` is exact.
    """

    packets: int = 0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    maximum: float = 0.0


class AppliedChange(msgspec.Struct, frozen=True, kw_only=True):
    """A scheduled change that has happened.

    at: when it was to, in seconds from the start of the schedule; time_ns: when it did, on the
    real-time clock; error: why it could not be applied, or empty.
    """

    at: float
    time_ns: int
    error: str = ""


class LinkCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Both directions of a link; forward is from the first endpoint to the second.

    cpu_seconds: processor time that the emulator has used for all links together; log_error: why
    the log of fates is not complete, or empty.
    """

    forward: DirectionCounters
    reverse: DirectionCounters
    lateness: Lateness
    cpu_seconds: float = 0.0
    log_error: str = ""


class Tally:
    """The running numbers of one direction; drops are told to `log` as well, if there is one."""

    def __init__(self) -> None:
        self.packets_in = 0
        self.bytes_in = 0
        self.packets_out = 0
        self.bytes_out = 0
        self.dropped = dict.fromkeys(CAUSES, 0)
        self.duplicated = 0
        self.reordered = 0
        self.corrupted = 0
        self.marked = 0
        self.queue_high_water = 0
        self.log: FateLog | None = None

    def drop(self, cause: str, frame: bytes, time: int) -> None:
        """Count a frame that ends here; time: when it does, ns of the monotonic clock."""
        self.dropped[cause] += 1
        if self.log is not None:
            self.log.dropped(frame, cause, time)


class LatenessHistogram:
    """Latenesses in buckets of 4096 ns, above 8 ms in one bucket per power of two."""

    def __init__(self) -> None:
        self._buckets = [0] * (_FINE + 64)
        self._maximum = 0

    def record(self, latenesses: Sequence[int]) -> None:
        """latenesses: ns, not negative; at least one."""
        buckets = self._buckets
        for late in latenesses:
            bucket = late >> _SHIFT
            if bucket >= _FINE:
                bucket = _FINE + late.bit_length() - _FINE_BITS - 1
            buckets[bucket] += 1
        self._maximum = max(self._maximum, *latenesses)

    def summary(self) -> Lateness:
        """Everything recorded so far."""
        count = sum(self._buckets)
        if not count:
            return Lateness()
        return Lateness(
            packets=count,
            p50=self._percentile(0.50 * count),
            p90=self._percentile(0.90 * count),
            p99=self._percentile(0.99 * count),
            maximum=self._maximum / 1e9,
        )

    def _percentile(self, rank: float) -> float:
        """The middle of the bucket that holds the frame of this rank, in seconds."""
        bucket = next(
            bucket for bucket, seen in enumerate(accumulate(self._buckets)) if seen >= rank
        )
        if bucket < _FINE:
            middle = (bucket + 0.5) * (1 << _SHIFT)
        else:
            middle = 1.5 * (1 << (bucket - _FINE + _FINE_BITS))
        return min(middle, self._maximum) / 1e9
