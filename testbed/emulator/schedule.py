"""Changes of a link at set times."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from testbed.emulator.counters import AppliedChange
from testbed.errors import TestbedError
from testbed.kernel.timer import NEVER, SECOND, Nanoseconds
from testbed.topology.model import ScheduledChange


class Schedule:
    """Calls `apply` with each change at its time after `start` (ns of the monotonic clock).

    Whoever waits for `wake` and calls `release` then drives it. Raises `ValueError` for a time
    that does not come.
    """

    def __init__(
        self,
        changes: Sequence[ScheduledChange],
        start: Nanoseconds,
        apply: Callable[[ScheduledChange], None],
    ) -> None:
        for change in changes:
            if not 0 <= change.at < NEVER / SECOND:
                raise ValueError(f"a change cannot be scheduled at {change.at} s")
        # The next one last, where it is cheap to take.
        self._left = sorted(changes, key=lambda change: change.at)[::-1]
        self._start = start
        self._apply = apply
        #: When the one who drives it means to call `release`.
        self.scheduled: Nanoseconds = NEVER
        #: What has happened up to now.
        self.journal: list[AppliedChange] = []

    @property
    def wake(self) -> Nanoseconds:
        """When the next change is due, or NEVER."""
        if not self._left:
            return NEVER
        return self._start + round(self._left[-1].at * SECOND)

    def release(self, now: Nanoseconds) -> None:
        """Apply what is due by `now`."""
        while self.wake <= now:
            change = self._left.pop()
            error = ""
            try:
                self._apply(change)
            except (ValueError, TestbedError) as refusal:  # impairments were set by hand meanwhile
                error = str(refusal)
            self.journal.append(AppliedChange(at=change.at, time_ns=time.time_ns(), error=error))

    def cancel(self) -> None:
        """Apply nothing more."""
        self._left = []
