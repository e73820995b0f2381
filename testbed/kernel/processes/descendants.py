"""Finding all that a program has started, whatever it did to hide it.

Process groups and sessions are left by setsid(2), parents end before their children. What a
process cannot leave without privileges is its UTS namespace (uts_namespaces(7)): each program is
started in one of its own, and whoever is in it descends from that program.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from testbed.kernel.syscalls import CLONE_NEWUTS, unshare

_OWN = "/proc/thread-self/ns/uts"


class Descendants:
    """A program and all that it has started, and they, and so on."""

    def __init__(self, namespace: int) -> None:
        self._link = f"uts:[{os.fstat(namespace).st_ino}]"
        # Held meanwhile, so that its number is not given to another namespace.
        weakref.finalize(self, os.close, namespace)

    def end(self, number: int, timeout: float) -> bool:
        """Send all of them a signal and wait for their ends; whether none is left in time.

        Those that are started meanwhile get it too.
        """
        deadline = time.monotonic() + timeout
        told: set[int] = set()
        while pidfds := self._open():
            try:
                for pid, pidfd in pidfds.items():
                    if pid not in told or number == signal.SIGKILL:
                        with contextlib.suppress(ProcessLookupError):
                            signal.pidfd_send_signal(pidfd, number)
                        told.add(pid)
                if not _await_ends(list(pidfds.values()), deadline):
                    return False
            finally:
                for pidfd in pidfds.values():
                    os.close(pidfd)
        return True

    def _open(self) -> dict[int, int]:
        """Descriptors of those that are there, by process id."""
        found = {}
        for pid in self._there():
            with contextlib.suppress(ProcessLookupError):
                found[pid] = os.pidfd_open(pid)
                if not self._is_one(pid):  # another process has got the number since
                    os.close(found.pop(pid))
        return found

    def _there(self) -> Iterator[int]:
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and self._is_one(int(entry.name)):
                yield int(entry.name)

    def _is_one(self, pid: int) -> bool:
        try:  # the link of a process that has ended cannot be read
            return str(Path(f"/proc/{pid}/ns/uts").readlink()) == self._link
        except OSError:
            return False


def _await_ends(pidfds: list[int], deadline: float) -> bool:
    """Whether all of these processes end before the deadline."""
    poll = select.poll()
    left = set(pidfds)
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    while left:
        ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ready:
            return False
        for pidfd, _ in ready:
            poll.unregister(pidfd)
            left.discard(pidfd)
    return True


@contextlib.contextmanager
def descendants_of_what_is_started(hostname: str) -> Iterator[Descendants]:
    """Mark as one family all that this thread starts within the block.

    hostname: what they take for the machine's name. The thread does not go back to where it was,
    which takes privileges that a user namespace does not give, but on to an unmarked namespace.
    """
    before = socket.gethostname()
    unshare(CLONE_NEWUTS)
    try:
        socket.sethostname(hostname)
        yield Descendants(os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC))
    finally:
        unshare(CLONE_NEWUTS)
        socket.sethostname(before)
