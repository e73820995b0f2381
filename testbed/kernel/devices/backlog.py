"""How much more the processors take in that packets are steered to (see steering.py).

What is steered to a processor waits in its backlog, and where that is full the kernel drops
packets, telling only the receiving interface's `rx_dropped`. A writer that is faster than the
receivers for some milliseconds fills it; so it has to look, and to wait.

Source: net/core/dev.c (enqueue_to_backlog), net/core/net-procfs.c (softnet_seq_show).
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

_STATE = "/proc/net/softnet_stat"
_LIMIT = Path("/proc/sys/net/core/netdev_max_backlog")
_USUAL_LIMIT: Final = 1000  # what the kernel begins with; told in the first namespace alone
_WAITING, _PROCESSOR = 11, 12  # columns, hexadecimal; from Linux 5.10 on

#: Writers do not know of each other: this many may fill the backlogs of the same processors.
_WRITERS: Final = 3


class Backlog:
    """Room for packets in the backlogs of `cpus`.

    Looking takes some microseconds, so it is only done when what was seen may have been used up.
    Raises `OSError` where the kernel does not tell.
    """

    def __init__(self, cpus: Collection[int]) -> None:
        self._cpus = frozenset(cpus)
        self._fd = os.open(_STATE, os.O_RDONLY | os.O_CLOEXEC)
        self._most = backlog_limit() // _WRITERS
        self._room = 0
        try:
            self._look()
        except (IndexError, ValueError) as error:
            os.close(self._fd)
            raise OSError(f"{_STATE} has no backlogs") from error

    def close(self) -> None:
        os.close(self._fd)

    def room(self, wanted: int) -> int:
        """How many of `wanted` packets may be written; fewer where the backlogs are filling."""
        if self._room < wanted:
            self._look()
        return min(wanted, self._room)

    def filled(self, packets: int) -> None:
        """So many have been written."""
        self._room -= packets

    def _look(self) -> None:
        rows = [line.split() for line in self._read().splitlines()]
        waiting = [int(row[_WAITING], 16) for row in rows if int(row[_PROCESSOR], 16) in self._cpus]
        self._room = max(0, self._most - max(waiting, default=0))

    def _read(self) -> bytes:
        chunks = []
        offset = 0
        while chunk := os.pread(self._fd, 1 << 16, offset):
            chunks.append(chunk)
            offset += len(chunk)
        return b"".join(chunks)


def backlog_limit() -> int:
    """Packets that may wait for each processor."""
    try:
        return int(_LIMIT.read_text())
    except (OSError, ValueError):
        return _USUAL_LIMIT
