"""Changes of a link at set times."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from testbed.emulator.counters import AppliedChange
from testbed.emulator.elements.element import NEVER, SECOND, Nanoseconds
from testbed.emulator.userspace.link import Link
from testbed.topology.model import ScheduledChange


class Schedule:
    """Applies changes to a link, each at its time after `start` (ns of the monotonic clock).

    Raises `ValueError` at once when one of them cannot be applied to what would then be in force.
    """

    def __init__(
        self,
        link: Link,
        changes: Sequence[ScheduledChange],
        start: Nanoseconds,
        on_change: Callable[[Link], None],
    ) -> None:
        self._link = link
        for change in changes:
            if not 0 <= change.at < NEVER / SECOND:
                raise ValueError(f"a change cannot be scheduled at {change.at} s")
        in_order = sorted(changes, key=lambda change: change.at)
        link.rehearse(in_order)
        self._left = in_order[::-1]  # the next one last, where it is cheap to take
        self._start = start
        self._on_change = on_change
        self.scheduled: Nanoseconds = NEVER
        self.journal: list[AppliedChange] = []

    @property
    def wake(self) -> Nanoseconds:
        """When the next change is due."""
        if not self._left:
            return NEVER
        return self._start + round(self._left[-1].at * SECOND)

    def release(self, now: Nanoseconds) -> None:
        """Apply what is due by `now`."""
        while self.wake <= now:
            change = self._left.pop()
            error = ""
            try:
                self._link.apply(change)
            except ValueError as refusal:  # impairments were set by hand meanwhile
                error = str(refusal)
            self.journal.append(AppliedChange(at=change.at, time_ns=time.time_ns(), error=error))
            self._on_change(self._link)

    def cancel(self) -> None:
        """Apply nothing more."""
        self._left = []
