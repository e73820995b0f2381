"""The loop that moves frames: it knows descriptors and due times, and nothing of impairments."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from heapq import heappop, heappush
from typing import Protocol

from testbed.emulator.userspace.link import EmulatedDirection, EmulatedLink
from testbed.kernel.load_sharing import LoadSharing
from testbed.kernel.realtime import RealtimeLoop
from testbed.kernel.timer import NEVER, Nanoseconds

_CLOSERS = 256


class Server(Protocol):
    """A conversation that shares the loop."""

    def fileno(self) -> int:
        """Readable when there is something to answer."""

    def serve_one(self) -> bool:
        """Answer it; False ends the loop."""


class Timed(Protocol):
    """Something on the loop's agenda: a direction of a link, or a schedule."""

    scheduled: Nanoseconds

    @property
    def wake(self) -> Nanoseconds:
        """When `release` must be called next."""

    def release(self, now: Nanoseconds) -> None:
        """Do what is due by `now`, or part of it."""


class LinkLoop:
    """Links and one control conversation in one loop; sleeps when there is nothing to do."""

    def __init__(self, load: LoadSharing) -> None:
        self._loop = RealtimeLoop(load, busy_waiting=True)
        self._links: dict[str, EmulatedLink] = {}
        self._by_source: dict[int, EmulatedDirection] = {}
        self._agenda: list[tuple[Nanoseconds, int, Timed]] = []
        self._serial = 0

    def __getitem__(self, name: str) -> EmulatedLink:
        return self._links[name]

    def __contains__(self, name: str) -> bool:
        return name in self._links

    def add(self, link: EmulatedLink) -> None:
        """Carry this link's frames from now on."""
        for direction in link.directions.values():
            self._loop.register(direction.source)
            self._by_source[direction.source] = direction
        self._links[link.name] = link

    def reschedule(self, link: EmulatedLink) -> None:
        """To be called after a link's impairments have changed: its frames may be due earlier."""
        for direction in link.directions.values():
            self.schedule(direction)

    def schedule(self, timed: Timed) -> None:
        """Put it on the agenda, unless it is there for an earlier moment already.

        An entry that an earlier one has superseded stays on the agenda and is passed over when
        its moment comes.
        """
        wake = timed.wake
        if wake < timed.scheduled:
            timed.scheduled = wake
            self._serial += 1
            heappush(self._agenda, (wake, self._serial, timed))

    def run(self, server: Server) -> None:
        """Carry frames and let `server` answer until it says it is over."""
        control = server.fileno()
        self._loop.register(control)
        while True:
            for fd in self._wait():
                direction = self._by_source.get(fd)
                if direction is not None:
                    if not direction.receive():
                        self._retire(direction)
                    self.schedule(direction)
                elif fd == control and not server.serve_one():
                    self._finish()
                    return
            if self._loop.may_be_due:
                self._release_due(time.monotonic_ns())

    def _wait(self) -> list[int]:
        """Until something is due on the agenda or readable; what is readable."""
        if not self._agenda:
            return self._loop.wait(NEVER)
        due, _, timed = self._agenda[0]
        return self._loop.wait(due, timed.release)

    def _release_due(self, now: Nanoseconds) -> None:
        """Give everything that is due by `now` its turn: a direction one batch of frames."""
        agenda = self._agenda
        due = []
        while agenda and agenda[0][0] <= now:
            moment, _, timed = heappop(agenda)
            if moment == timed.scheduled:
                timed.scheduled = NEVER
                due.append(timed)
        for timed in due:
            timed.release(now)
            self.schedule(timed)

    def _retire(self, direction: EmulatedDirection) -> None:
        """Listen no more to a source that has failed; what it gave before is still carried."""
        self._loop.unregister(direction.source)
        del self._by_source[direction.source]

    def _finish(self) -> None:
        """Close everything, interfaces many at a time: the kernel takes some 20 ms for each, in
        which it only waits for other processors (synchronize_net, rcu_barrier)."""
        for link in self._links.values():
            if link.log is not None:
                link.log.close()
        fds = [fd for link in self._links.values() for fd in link.fds]
        # Where there can be no more threads, the end of the process closes them.
        with contextlib.suppress(RuntimeError), ThreadPoolExecutor(_CLOSERS) as closers:
            for fd in fds:
                closers.submit(os.close, fd)
