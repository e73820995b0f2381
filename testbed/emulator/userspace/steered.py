"""What an emulator does with the knowledge that other processors take in what it hands over."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection

from testbed.emulator.elements.element import SECOND, Nanoseconds
from testbed.kernel.devices.backlog import Backlog

#: So long after it had no time to sleep, an emulator is no longer under load.
_QUIET: Nanoseconds = SECOND // 10


class Steered:
    """Nothing, until it is told of a processor of its own and of those of the receivers.

    Under load it keeps to its own, where the receivers' work does not interrupt it; at other times
    it runs where there is room. It never hands over more frames than the receivers' processors
    have room for.
    """

    def __init__(self) -> None:
        self._backlog: Backlog | None = None
        self._own: int | None = None
        self._everywhere = os.sched_getaffinity(0)
        self._kept = False
        self._loaded_at: Nanoseconds = 0

    def begin(self, own: int, receivers: Collection[int]) -> None:
        """Frames are steered to the processors `receivers` from now on.

        Where this process may not use its `own` (any more), it runs where there is room for good.
        Raises `OSError` where the kernel does not tell how full the receivers' backlogs are.
        """
        self._backlog = Backlog(receivers)
        self._own = own if own in self._everywhere else None

    def room(self, frames: int) -> int:
        """How many of so many frames may be handed over now."""
        return frames if self._backlog is None else self._backlog.room(frames)

    def handed_over(self, frames: int) -> None:
        if self._backlog is not None:
            self._backlog.filled(frames)

    def loaded(self, now: Nanoseconds) -> None:
        """There has been no time to sleep."""
        self._loaded_at = now
        if self._own is not None and not self._kept:
            self._move({self._own})
            self._kept = True

    def slept(self, now: Nanoseconds) -> None:
        """There has been time to sleep."""
        if self._kept and now - self._loaded_at > _QUIET:
            self._move(self._everywhere)
            self._kept = False

    def _move(self, cpus: set[int]) -> None:
        with contextlib.suppress(OSError):  # some were taken away meanwhile (cpuset)
            os.sched_setaffinity(0, cpus)
