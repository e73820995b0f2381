"""Files that one process has to itself."""

from __future__ import annotations

import fcntl


def claim(fd: int) -> bool:
    """Take the lock of an open file, until its last copy is closed; False where another has it.

    See flock(2): two descriptors of one process are two as well, unless one is a copy.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_claimed(fd: int) -> bool:
    """Whether somebody has the lock of an open file; looking disturbs no other who looks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
