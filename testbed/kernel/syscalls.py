"""The few system calls that Python 3.11 has no name for, as functions that raise OSError."""

from __future__ import annotations

import ctypes
import errno
import os

CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
CLONE_NEWUTS = 0x4000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# Numbers that all architectures share (scripts/syscall.tbl), and include/uapi/linux/mount.h.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC = 1  # FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC
_FSCONFIG_CMD_CREATE = 6
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces; see unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace behind `fd`; see setns(2)."""
    _check(_libc.setns(fd, kind), "setns")


def mount_detached(kind: str) -> int:
    """A directory's descriptor: a file system that is mounted nowhere and ends with it.

    See fsopen(2), fsconfig(2) and fsmount(2); Linux 5.2 and later.
    """
    context = _check(_libc.syscall(_FSOPEN, kind.encode(), _CLOEXEC), "fsopen")
    try:
        _check(_libc.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig")
        return _check(_libc.syscall(_FSMOUNT, context, _CLOEXEC, 0), "fsmount")
    finally:
        os.close(context)


def punch_hole(fd: int, start: int, length: int) -> None:
    """Free the blocks of a part of a file, which then reads as zeros; see fallocate(2).

    Does nothing where the file system cannot.
    """
    offset, size = ctypes.c_int64(start), ctypes.c_int64(length)
    result = _libc.fallocate(fd, _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE, offset, size)
    if result != 0 and ctypes.get_errno() != errno.EOPNOTSUPP:
        _check(result, "fallocate")
