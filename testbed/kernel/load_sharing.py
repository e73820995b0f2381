"""Sharing the kernel's work for what a process sends, under load, with other processors.

What a process writes to a steered device is taken in by other processors (see
`testbed.kernel.devices.steering`). Their work must not interrupt the process, and it must not hand
over more than they have room for.
"""

from __future__ import annotations

import contextlib
import os

from testbed.kernel.devices.backlog import Backlog
from testbed.kernel.placement import Placement
from testbed.kernel.timer import SECOND, Nanoseconds

#: So long after it had no time to sleep, a process is no longer under load.
_QUIET: Nanoseconds = SECOND // 10


class LoadSharing:
    """Optional CPU pinning under load, and the receivers' backlogs; inactive until `begin`."""

    def __init__(self) -> None:
        self._backlog: Backlog | None = None
        self._own: int | None = None
        self._everywhere = os.sched_getaffinity(0)
        self._loaded_at: Nanoseconds = 0
        #: Whether the process is under load, and on its own processor.
        self.pinned = False

    def begin(self, placement: Placement) -> None:
        """Share work from now on.

        A process that may not use its own processor (any more) is never pinned. Raises `OSError`
        where the kernel does not tell how full the receivers' backlogs are.
        """
        self._backlog = Backlog(placement.receivers)
        self._own = placement.cpu if placement.cpu in self._everywhere else None

    def room(self, packets: int) -> int:
        """How many of so many packets may be handed over now."""
        return packets if self._backlog is None else self._backlog.room(packets)

    def handed_over(self, packets: int) -> None:
        """So many packets have been written to steered devices."""
        if self._backlog is not None:
            self._backlog.filled(packets)

    def loaded(self, now: Nanoseconds) -> None:
        """There has been no time to sleep for a while."""
        self._loaded_at = now
        if self._own is not None and not self.pinned:
            self.pinned = self._move({self._own})

    def slept(self, now: Nanoseconds) -> None:
        """There has been time to sleep."""
        if self.pinned and now - self._loaded_at > _QUIET:
            self._move(self._everywhere)
            self.pinned = False

    def _move(self, cpus: set[int]) -> bool:
        with contextlib.suppress(OSError):  # some were taken away meanwhile (cpuset)
            os.sched_setaffinity(0, cpus)
            return True
        return False
