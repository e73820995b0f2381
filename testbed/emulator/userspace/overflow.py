"""Frames that found the queue of a TAP full, which the interface counts and the emulator never saw.

Source: drivers/net/tun.c (tun_net_xmit).
"""

from __future__ import annotations

import errno
import threading

import msgspec

from testbed.emulator.builder import LinkEndInNode
from testbed.emulator.counters import DirectionCounters, LinkCounters
from testbed.errors import KernelError
from testbed.kernel.namespace import Namespace
from testbed.kernel.netlink import state
from testbed.kernel.netlink.socket import Netlink


class Overflows:
    """Asks the interfaces of links, in one conversation for each node. Usable from any thread."""

    def __init__(self) -> None:
        self._ends: dict[str, tuple[LinkEndInNode, LinkEndInNode]] = {}
        self._netlinks: dict[Namespace, Netlink] = {}
        self._dropped: dict[int, int] = {}
        self._lock = threading.Lock()

    def add_link(self, name: str, a: LinkEndInNode, b: LinkEndInNode) -> None:
        self._ends[name] = (a, b)

    def added_to(self, name: str, counted: LinkCounters) -> LinkCounters:
        """The counters of a link, and what its interfaces have dropped."""
        forward, reverse = (self._dropped_by(end) for end in self._ends[name])
        return msgspec.structs.replace(
            counted,
            forward=_with_overflow(counted.forward, forward),
            reverse=_with_overflow(counted.reverse, reverse),
        )

    def _dropped_by(self, end: LinkEndInNode) -> int:
        with self._lock:
            if end.namespace not in self._netlinks:
                self._netlinks[end.namespace] = end.namespace.call(Netlink)
            index = end.interface.index
            try:
                told = state.traffic(self._netlinks[end.namespace], index)
                self._dropped[index] = told.tx_dropped
            except KernelError as error:
                if error.number != errno.ENODEV:  # deleted: it is as it was when last asked
                    raise
            return self._dropped.get(index, 0)

    def close(self) -> None:
        with self._lock:
            while self._netlinks:
                self._netlinks.popitem()[1].close()


def _with_overflow(counted: DirectionCounters, packets: int) -> DirectionCounters:
    return msgspec.structs.replace(
        counted,
        packets_in=counted.packets_in + packets,
        dropped=counted.dropped | {"overflow": packets},
    )
