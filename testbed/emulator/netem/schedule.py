"""A schedule that is driven by a thread, for an emulator that is no process of its own."""

from __future__ import annotations

import threading
import time

from testbed.emulator.schedule import Schedule
from testbed.kernel.timer import NEVER, SECOND

_LONGEST_WAIT = 3600.0  # seconds; a thread can wait for threading.TIMEOUT_MAX at most


class ScheduleThread:
    """Drives `schedule` from now on, until it has come to its end or is cancelled."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._cancelled = threading.Event()
        threading.Thread(target=self._run, name="testbed-schedule", daemon=True).start()

    def cancel(self) -> None:
        """Apply nothing more."""
        self._cancelled.set()

    def _run(self) -> None:
        while (wake := self.schedule.wake) < NEVER:
            left = (wake - time.monotonic_ns()) / SECOND
            if self._cancelled.wait(min(max(left, 0.0), _LONGEST_WAIT)):
                return
            self.schedule.release(time.monotonic_ns())
