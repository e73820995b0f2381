"""Where packets leave the box, and which processors work for them there.

A packet that is written to a TUN device is taken in by the kernel within the write, up to the
TCP of its receiver. A steered device leaves that to other processors: much more gets through,
but each that sleeps has to be woken up, and a lone packet is later for it. So both kinds are
there, and load decides.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Sequence
from typing import Final

from testbed.kernel.devices.backlog import Backlog

QUIET: Final = 0.05
"""Seconds without a packet after which the steered devices have certainly handed theirs on: the
processors of a virtual machine may stand still for tens of milliseconds."""

_BREATH: Final = 0.0001
_MOST_BREATHS: Final = 50  # who keeps the others busy for longer may be somebody else


class Outlets:
    """A device for each side, and perhaps a steered one beside it.

    direct, steered: descriptors by side. cpu: where this process runs while it uses the steered
    ones, which are steered to the processors `receivers`. Packets never overtake each other: what
    was written to a direct device has arrived, and from a steered one back to it is only after
    `QUIET`. Raises `OSError` where the kernel does not tell what waits for `receivers`.
    """

    def __init__(
        self,
        direct: Sequence[int],
        steered: Sequence[int] = (),
        cpu: int | None = None,
        receivers: Collection[int] = (),
    ) -> None:
        self._direct = tuple(direct)
        self._steered = tuple(steered)
        self._cpu = cpu
        self._backlog = None if cpu is None else Backlog(receivers)
        self._everywhere = os.sched_getaffinity(0)
        self._in_use = self._direct

    def send(self, side: int, packet: memoryview) -> None:
        """Put a packet out. Raises `OSError` where the kernel does not take it."""
        os.write(self._in_use[side], packet)

    def loaded(self) -> None:
        """There are more packets than are taken at a time."""
        if self._cpu is None or self._in_use is self._steered:
            return
        try:
            os.sched_setaffinity(0, {self._cpu})
        except OSError:  # it was taken away meanwhile (cpuset)
            self._cpu = None
            return
        self._in_use = self._steered

    def pace(self, sent: int, next_batch: int) -> None:
        """Wait until the receivers' processors have room for so many more, where they are used.

        sent: packets since this was called last.
        """
        if self._backlog is None or self._in_use is self._direct:
            return
        self._backlog.filled(sent)
        for _ in range(_MOST_BREATHS):
            if self._backlog.room(next_batch) == next_batch:
                return
            time.sleep(_BREATH)

    def slept(self, seconds: float) -> None:
        """No packet has been sent for so long."""
        if seconds >= QUIET and self._in_use is not self._direct:
            self._in_use = self._direct
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, self._everywhere)
