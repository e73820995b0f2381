"""The loop that moves frames: it knows descriptors and due times, and nothing of impairments."""

from __future__ import annotations

import select
import time
from heapq import heappop, heappush
from typing import Protocol

from testbed.emulator.elements.element import NEVER, Nanoseconds
from testbed.emulator.userspace.link import Direction, Link
from testbed.emulator.userspace.steered import Steered
from testbed.kernel.timer import Alarm

#: Never sleep for less: at high rates a wake-up costs more than the frame it is for.
QUANTUM: Nanoseconds = 50_000
#: Never work for longer without a sleep: a real-time process that does is throttled by the
#: kernel, for tens of milliseconds, and until then nobody else gets this processor.
LONGEST_STINT: Nanoseconds = 5_000_000
_REST: Nanoseconds = 300_000
#: A wait that took longer than this gave the processor away.
_NOTICEABLE: Nanoseconds = 20_000
#: Read nothing in the last moments before a frame is due that is spun for: it would be late.
_UNDISTURBED: Nanoseconds = 50_000


class HeadStart:
    """How much before a frame is due to wake up, because waking up takes its time.

    The time until it is really due is spun away, so accuracy is paid for in processor time: no
    more than a tenth of that which the emulator would have slept. Frames that follow each other
    too closely for that are woken up for in the ordinary way, and when there is much to do nothing
    is spun away. How long waking up takes at worst is learnt: in a virtual machine 50 us are usual
    and 150 us are not rare, on bare metal it is 10 us.
    """

    _LONGEST: Nanoseconds = 250_000
    _MARGIN: Nanoseconds = 10_000
    _FORGET = 256
    _SHARE = 10
    _MOST_SAVED: Nanoseconds = 1_000_000

    def __init__(self) -> None:
        self._wake_up: Nanoseconds = 100_000
        self._spinning_since: Nanoseconds = 0
        self._saved = self._MOST_SAVED

    def slept(self, duration: Nanoseconds) -> None:
        """That saves time for spinning."""
        self._saved = min(self._saved + duration // self._SHARE, self._MOST_SAVED)

    def learn(self, late: Nanoseconds) -> None:
        """A sleep ended this long after it should have: rises at once, falls very slowly."""
        if late > self._wake_up:
            self._wake_up = min(late, self._LONGEST)
        else:
            self._wake_up -= (self._wake_up - late) // self._FORGET

    def before(self, due: Nanoseconds, now: Nanoseconds) -> Nanoseconds:
        """When to wake up, with nothing else to do from `now` on, for a frame that is due then."""
        saved = self._saved + (due - now) // self._SHARE
        return due - min(self._wake_up + self._MARGIN, saved)

    @property
    def spinning(self) -> bool:
        """Whether a frame is being spun for."""
        return self._spinning_since > 0

    def spin(self, now: Nanoseconds) -> None:
        """It is being spun."""
        if not self._spinning_since:
            self._spinning_since = now

    def over(self, now: Nanoseconds) -> None:
        """The frame is due."""
        if self._spinning_since:
            self._saved = max(0, self._saved - (now - self._spinning_since))
            self._spinning_since = 0


class Server(Protocol):
    """A conversation that shares the loop."""

    def fileno(self) -> int:
        """Readable when there is something to answer."""

    def serve_one(self) -> bool:
        """Answer it; False ends the loop."""


class Timed(Protocol):
    """Something on the ferry's agenda: a direction of a link, or a schedule."""

    scheduled: Nanoseconds

    @property
    def wake(self) -> Nanoseconds:
        """When `release` must be called next."""

    def release(self, now: Nanoseconds) -> None:
        """Do what is due by `now`, or part of it."""


class Ferry:
    """Links and one control conversation in one loop; sleeps when there is nothing to do."""

    def __init__(self, steered: Steered) -> None:
        self._steered = steered
        self._links: dict[str, Link] = {}
        self._by_source: dict[int, Direction] = {}
        self._agenda: list[tuple[Nanoseconds, int, Timed]] = []
        self._serial = 0
        self._epoll = select.epoll()
        self._alarm = Alarm()
        self._alarm_at: Nanoseconds = NEVER
        self._epoll.register(self._alarm.fileno(), select.EPOLLIN)
        self._rested_at: Nanoseconds = 0
        self._head_start = HeadStart()

    def __getitem__(self, name: str) -> Link:
        return self._links[name]

    def __contains__(self, name: str) -> bool:
        return name in self._links

    def add(self, link: Link) -> None:
        """Carry this link's frames from now on."""
        for direction in link.directions.values():
            self._epoll.register(direction.source, select.EPOLLIN)
            self._by_source[direction.source] = direction
        self._links[link.name] = link

    def reschedule(self, link: Link) -> None:
        """To be called after a link's impairments have changed: its frames may be due earlier."""
        for direction in link.directions.values():
            self.schedule(direction)

    def run(self, server: Server) -> None:
        """Carry frames and let `server` answer until it says it is over."""
        control = server.fileno()
        self._epoll.register(control, select.EPOLLIN)
        self._rested_at = time.monotonic_ns()
        while True:
            for fd, _ in self._wait():
                direction = self._by_source.get(fd)
                if direction is not None:
                    if not direction.receive():
                        self._retire(direction)
                    self.schedule(direction)
                elif fd == control and not server.serve_one():
                    self._finish()
                    return
            self._release_due(time.monotonic_ns())

    def _wait(self) -> list[tuple[int, int]]:
        """Sleep until something is readable or due; gives what is readable."""
        now = time.monotonic_ns()
        if now - self._rested_at > LONGEST_STINT:
            time.sleep(_REST / 1e9)
            now = self._rested_at = time.monotonic_ns()
            self._steered.loaded(now)
        next_due = self._agenda[0][0] if self._agenda else NEVER
        if next_due <= now:
            return [] if self._head_start.spinning else self._epoll.poll(0)
        wake_at = self._head_start.before(next_due, now) if next_due < NEVER else NEVER
        if wake_at <= now:
            return self._spin(next_due, now)
        if wake_at - now < QUANTUM:
            time.sleep(QUANTUM / 1e9)
            self._rested_at = time.monotonic_ns()
            self._head_start.slept(self._rested_at - now)
            return self._epoll.poll(0)
        self._set_alarm(wake_at)
        ready = self._epoll.poll()
        woken = time.monotonic_ns()
        self._head_start.slept(woken - now)
        if woken - now > _NOTICEABLE:
            self._rested_at = woken
            self._steered.slept(woken)
        if woken >= wake_at:
            self._head_start.learn(woken - wake_at)
        return ready

    def _spin(self, due: Nanoseconds, now: Nanoseconds) -> list[tuple[int, int]]:
        """Let the time until then pass without sleep; gives what is readable meanwhile."""
        self._head_start.spin(now)
        # In vain, but what it takes is then in the processor's caches: 10 us.
        self._agenda[0][2].release(now)
        if due - now > _UNDISTURBED:
            return self._epoll.poll(0)
        while time.monotonic_ns() < due:
            pass
        return []

    def _set_alarm(self, moment: Nanoseconds) -> None:
        if moment == self._alarm_at:
            return
        self._alarm_at = moment
        if moment == NEVER:
            self._alarm.clear()
        else:
            self._alarm.set(moment)

    def _release_due(self, now: Nanoseconds) -> None:
        """Give everything that is due by `now` its turn: a direction one batch of frames."""
        agenda = self._agenda
        if agenda and agenda[0][0] <= now:
            self._head_start.over(now)
        due = []
        while agenda and agenda[0][0] <= now:
            moment, _, timed = heappop(agenda)
            if moment == timed.scheduled:
                timed.scheduled = NEVER
                due.append(timed)
        for timed in due:
            timed.release(now)
            self.schedule(timed)

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

    def _retire(self, direction: Direction) -> None:
        """Listen no more to a source that has failed; what it gave before is still carried."""
        self._epoll.unregister(direction.source)
        del self._by_source[direction.source]

    def _finish(self) -> None:
        for link in self._links.values():
            if link.log is not None:
                link.log.close()
