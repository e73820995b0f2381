"""Where packets leave the box, and which processors work for them there.

A packet that is written to a TUN device is taken in by the kernel within the write, up to the
TCP of its receiver. A steered device leaves that to other processors: much more gets through,
but each that sleeps has to be woken up, and a lone packet is later for it. So both kinds are
there, and load decides.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final

from testbed.kernel.load_sharing import LoadSharing
from testbed.kernel.timer import SECOND, Nanoseconds

QUIET: Final[Nanoseconds] = SECOND // 20
"""Time without a packet after which the steered devices have certainly handed theirs on: the
processors of a virtual machine may stand still for tens of milliseconds."""

_BREATH: Final = 0.0001  # seconds
_MOST_BREATHS: Final = 50  # who keeps the others busy for longer may be somebody else


class Output:
    """A device for each side, and perhaps a steered one beside it.

    direct, steered: descriptors by side. load: tells of load. Packets never overtake each other:
    what was written to a direct device has arrived, and from a steered one back to it is only
    after `QUIET`.
    """

    def __init__(
        self, direct: Sequence[int], steered: Sequence[int] = (), load: LoadSharing | None = None
    ) -> None:
        self._direct = tuple(direct)
        self._steered = tuple(steered)
        self._load = load or LoadSharing()
        self._in_use = self._direct
        #: Whether there is a choice.
        self.steers = bool(self._steered)

    def send(self, side: int, packet: memoryview) -> None:
        """Put a packet out. Raises `OSError` where the kernel does not take it."""
        os.write(self._in_use[side], packet)

    def choose(self, waited: Nanoseconds) -> None:
        """Choose the devices for what is sent next. waited: the time without a packet."""
        if self._load.pinned:
            self._in_use = self._steered
        elif waited >= QUIET:
            self._in_use = self._direct

    def pace(self, sent: int, next_batch: int) -> None:
        """Wait until the receivers' processors have room for so many more, where they are used.

        sent: packets since this was called last.
        """
        if self._in_use is self._direct:
            return
        self._load.handed_over(sent)
        for _ in range(_MOST_BREATHS):
            if self._load.room(next_batch) == next_batch:
                return
            time.sleep(_BREATH)
