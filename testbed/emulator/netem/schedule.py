"""Changes of a link at set times, for an emulator that is no process of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from testbed.emulator.counters import AppliedChange
from testbed.errors import LabError, TestbedError
from testbed.kernel.processes.process import deadline_in, time_left
from testbed.topology.model import ScheduledChange

_LONGEST = 30 * 24 * 3600.0


class Schedule:
    """A thread that calls `apply` with each change at its time, from now on.

    Raises `LabError` for a time that does not come.
    """

    def __init__(
        self, changes: Sequence[ScheduledChange], apply: Callable[[ScheduledChange], None]
    ) -> None:
        for change in changes:
            if not 0 <= change.at <= _LONGEST:
                raise LabError(f"a change cannot be scheduled at {change.at} s")
        self._changes = sorted(changes, key=lambda change: change.at)
        self._apply = apply
        self._began = deadline_in(0)
        self._cancelled = threading.Event()
        self._applied: list[AppliedChange] = []
        threading.Thread(target=self._run, name="testbed-schedule", daemon=True).start()

    @property
    def journal(self) -> tuple[AppliedChange, ...]:
        """What has happened up to now."""
        return tuple(self._applied)

    def cancel(self) -> None:
        """Apply nothing more."""
        self._cancelled.set()

    def _run(self) -> None:
        for change in self._changes:
            if self._cancelled.wait(time_left(self._began + change.at)):
                return
            error = ""
            try:
                self._apply(change)
            except TestbedError as refusal:  # impairments were set by hand meanwhile
                error = str(refusal)
            self._applied.append(AppliedChange(at=change.at, time_ns=time.time_ns(), error=error))
