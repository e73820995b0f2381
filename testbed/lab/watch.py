"""Notices at once when a process that the lab depends on ends before its time."""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Callable
from typing import Protocol

_POLL_SECONDS = 1.0


class Watched(Protocol):
    """A process, or what stands and falls with one."""

    @property
    def pid(self) -> int: ...

    def descriptor(self) -> int:
        """A new descriptor of it, which is readable once it has ended."""

    def ended_within(self, timeout: float, /) -> bool:
        """Whether it ends within `timeout` seconds."""

    def ending(self) -> str:
        """How it ended, in words."""

    def said_last(self) -> str:
        """The last of what it said."""


class Watch:
    """A thread that sleeps until a watched process ends, then calls back, once for each.

    poll: called every second and after each event, to check what no event tells of.
    """

    def __init__(self, poll: Callable[[], None]) -> None:
        self._poll = poll
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._callbacks: dict[int, tuple[Watched, Callable[[], None]]] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="testbed-watch", daemon=True)
        self._thread.start()

    def add(self, process: Watched, on_end: Callable[[], None]) -> None:
        """Call `on_end` in the watching thread when the process ends."""
        pidfd = process.descriptor()
        with self._lock:
            self._callbacks[pidfd] = (process, on_end)
            self._selector.register(pidfd, selectors.EVENT_READ)

    def forget(self, process: Watched) -> None:
        """Its end is intended from now on."""
        with self._lock:
            for pidfd, (watched, _) in list(self._callbacks.items()):
                if watched is process:
                    self._drop(pidfd)

    def _drop(self, pidfd: int) -> Callable[[], None]:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        return self._callbacks.pop(pidfd)[1]

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select(_POLL_SECONDS):
                if key.fd == self._wake:
                    return
                with self._lock:
                    # The number may belong to another process since the wake-up.
                    process, _ = self._callbacks.get(key.fd, (None, None))
                    mine = process is not None and process.ended_within(0)
                    ended = self._drop(key.fd) if mine else None
                if ended is not None:
                    ended()
            self._poll()

    def close(self) -> None:
        """Watch no more: whatever ends from now on ends as intended."""
        if self._closed:
            return
        self._closed = True
        os.eventfd_write(self._wake, 1)  # a closed pipe would tell nothing while a fork has it
        self._thread.join()
        for pidfd in list(self._callbacks):
            self._drop(pidfd)
        self._selector.close()
        os.close(self._wake)
