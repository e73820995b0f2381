"""Waiting for descriptors and moments in a process that is to be punctual and must share its CPU.

Every process that carries packets waits here. A wait on an ordinary kernel ends late, by 10 us on
bare metal and by 50 to 150 us in a virtual machine; and a real-time process (SCHED_FIFO) that never
sleeps is throttled by the kernel for tens of milliseconds (sched(7)).
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from testbed.kernel.clock import waits_are_exact
from testbed.kernel.load_sharing import LoadSharing
from testbed.kernel.timer import NEVER, SECOND, Alarm, Nanoseconds

#: Never sleep for less: at high rates a wake-up costs more than the packet that it is for.
QUANTUM: Nanoseconds = 50_000
#: Never work for longer without a sleep.
LONGEST_STINT: Nanoseconds = 5_000_000
REST: Nanoseconds = 300_000
#: A wait that took longer than this gave the processor away.
_NOTICEABLE: Nanoseconds = 20_000
#: Read nothing in the last moments before what is due, which would be late.
_UNDISTURBED: Nanoseconds = 50_000


class BusyWaiting:
    """How long before a moment to wake up, so that the rest of the time is waited for awake.

    Busy-waiting may take a tenth of the time slept: `_credit` is what is left of it. Moments that
    follow each other too closely for that are slept for in the ordinary way, and where there is
    no time to sleep there is no busy-waiting. How late a sleep ends at worst is learnt.
    """

    _LONGEST: Nanoseconds = 250_000
    _MARGIN: Nanoseconds = 10_000
    _FORGET = 256
    _SHARE = 10
    _MOST_CREDIT: Nanoseconds = 1_000_000

    def __init__(self) -> None:
        self._wake_up: Nanoseconds = 100_000
        self._credit = self._MOST_CREDIT

    def begins(self, due: Nanoseconds, now: Nanoseconds) -> Nanoseconds:
        """When to wake up for what is due at `due`, if the process sleeps from `now` on."""
        credit = self._credit + (due - now) // self._SHARE
        return due - min(self._wake_up + self._MARGIN, credit)

    def slept(self, duration: Nanoseconds) -> None:
        """The process has slept, which earns credit."""
        self._credit = min(self._credit + duration // self._SHARE, self._MOST_CREDIT)

    def waited(self, duration: Nanoseconds) -> None:
        """The process has been busy-waiting, which uses credit up."""
        self._credit = max(0, self._credit - duration)

    def learn(self, late: Nanoseconds) -> None:
        """A sleep ended so late: the estimate rises at once and falls slowly."""
        if late > self._wake_up:
            self._wake_up = min(late, self._LONGEST)
        else:
            self._wake_up -= (self._wake_up - late) // self._FORGET


class RealtimeLoop:
    """Waits until a descriptor is readable or something is due.

    Where waits are exact (`testbed.kernel.clock`) it does only that. Elsewhere it also rests after
    LONGEST_STINT without a sleep, tells `load` about load, never sleeps for less than QUANTUM, and
    waits busily for the last moments where it was made with `busy_waiting`.
    """

    def __init__(self, load: LoadSharing, *, busy_waiting: bool = False) -> None:
        self._load = load
        self._exact = waits_are_exact()
        self._busy = BusyWaiting() if busy_waiting and not self._exact else None
        self._epoll = select.epoll()
        self._alarm = Alarm()
        self._alarm_at: Nanoseconds = NEVER
        #: Whether something may be due since the last wait.
        self.may_be_due = True
        self._epoll.register(self._alarm.fileno(), select.EPOLLIN)
        self._slept_at = time.monotonic_ns()

    def register(self, fd: int) -> None:
        """Wait for this descriptor, too."""
        self._epoll.register(fd, select.EPOLLIN)

    def unregister(self, fd: int) -> None:
        """Wait for it no longer."""
        self._epoll.unregister(fd)

    def close(self) -> None:
        """Give its own descriptors back."""
        self._alarm.close()
        self._epoll.close()

    def wait(
        self, due: Nanoseconds, warm_up: Callable[[Nanoseconds], object] | None = None
    ) -> list[int]:
        """The descriptors that are readable; none when `due` has come first.

        due: ns of the monotonic clock, or NEVER. warm_up: called with the time while waiting
        busily, so that what will be needed is in the processor's caches (10 us).
        """
        if self._exact:
            return self._wait_exactly(due)
        now = time.monotonic_ns()
        if now - self._slept_at > LONGEST_STINT:
            now = self._sleep(REST)
            self._load.loaded(now)
        if due <= now:
            return self._readable()
        wake_at = due
        if self._busy is not None and due < NEVER:
            wake_at = self._busy.begins(due, now)
            if wake_at <= now:
                return self._wait_busily(due, now, self._busy, warm_up)
        if wake_at - now < QUANTUM:
            woken = self._sleep(QUANTUM)
            if self._busy is not None:
                self._busy.slept(woken - now)
            return self._readable()
        return self._wait_asleep(wake_at, now)

    def _wait_exactly(self, due: Nanoseconds) -> list[int]:
        """Without a look at the clock, which would take time: an alarm in the past goes off."""
        self._set_alarm(due)
        ready = self._without_alarm(woken := self._epoll.poll())
        self.may_be_due = len(ready) < len(woken)
        return ready

    def _wait_asleep(self, wake_at: Nanoseconds, now: Nanoseconds) -> list[int]:
        self._set_alarm(wake_at)
        ready = self._epoll.poll()
        woken = time.monotonic_ns()
        if woken - now > _NOTICEABLE:
            self._slept_at = woken
            self._load.slept(woken)
        if self._busy is not None:
            self._busy.slept(woken - now)
            if woken >= wake_at:
                self._busy.learn(woken - wake_at)
        return self._without_alarm(ready)

    def _wait_busily(
        self,
        due: Nanoseconds,
        began: Nanoseconds,
        busy: BusyWaiting,
        warm_up: Callable[[Nanoseconds], object] | None,
    ) -> list[int]:
        now, ready = began, list[int]()
        while now < due and not ready:
            if warm_up is not None:
                warm_up(now)
            if due - now > _UNDISTURBED:
                ready = self._readable()
            else:
                while time.monotonic_ns() < due:
                    pass
            now = time.monotonic_ns()
        busy.waited(now - began)
        return ready

    def _readable(self) -> list[int]:
        return self._without_alarm(self._epoll.poll(0))

    def _without_alarm(self, ready: list[tuple[int, int]]) -> list[int]:
        alarm = self._alarm.fileno()
        return [fd for fd, _ in ready if fd != alarm]

    def _sleep(self, duration: Nanoseconds) -> Nanoseconds:
        time.sleep(duration / SECOND)
        self._slept_at = time.monotonic_ns()
        return self._slept_at

    def _set_alarm(self, moment: Nanoseconds) -> None:
        if moment == self._alarm_at:
            return
        self._alarm_at = moment
        if moment == NEVER:
            self._alarm.clear()
        else:
            self._alarm.set(moment)
