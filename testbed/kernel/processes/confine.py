"""What a helper process does to itself before it touches the first packet.

A frame of the lab is input from the lab: a process that handles frames gives up every privilege
once it holds the descriptors it needs. The rest makes it punctual.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os

from testbed.kernel.clock import waits_are_exact
from testbed.kernel.processes import capabilities

_libc = ctypes.CDLL(None, use_errno=True)

# include/uapi/linux/prctl.h, include/uapi/asm-generic/mman.h
_PR_SET_TIMERSLACK = 29
_PR_SET_NO_NEW_PRIVS = 38
_MCL_CURRENT = 1


def drop_privileges() -> None:
    """Give up all capabilities of this thread for good, those regained by exec included.

    Call it while the process has one thread: capabilities belong to threads. Raises `OSError`
    when the kernel refuses, which it does only where seccomp forbids the calls.
    """
    capabilities.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    capabilities.drop_all()


def set_timer_slack(nanoseconds: int = 1) -> None:
    """Let sleeps of this thread end this late at most, instead of the default 50 us."""
    capabilities.prctl(_PR_SET_TIMERSLACK, nanoseconds)


def prefer_realtime(priority: int = 10) -> bool:
    """Run this process before all ordinary ones (SCHED_FIFO); whether it does.

    It does not where waits are exact without, and where the kernel does not permit it. Whoever
    calls this must sleep now and then: a real-time process that never does takes its processor
    away from everybody else, until the kernel throttles it (sched(7)).
    """
    if waits_are_exact():
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return False
    return True


def lock_memory() -> bool:
    """Keep the pages that are mapped now from being swapped out; whether it was granted.

    Pages mapped later are left alone: locked without privileges, they would make allocations
    fail at RLIMIT_MEMLOCK.
    """
    if _libc.mlockall(_MCL_CURRENT) == 0:
        return True
    if ctypes.get_errno() in (errno.EPERM, errno.ENOMEM, errno.EAGAIN, errno.ENOSYS):
        return False
    raise OSError(ctypes.get_errno(), f"mlockall: {os.strerror(ctypes.get_errno())}")


def still_garbage_collector() -> None:
    """Stop the cyclic garbage collector, whose full runs take milliseconds.

    Everything alive is put out of its sight. Whoever calls this must not make cycles per packet.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
