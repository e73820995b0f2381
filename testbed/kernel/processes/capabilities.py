"""The capabilities of this thread: what it has, and how its children come to have them.

Source: capabilities(7), include/uapi/linux/capability.h, include/uapi/linux/prctl.h.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

NET_ADMIN = 12
NET_RAW = 13
SYS_ADMIN = 21

NEEDED = {"CAP_SYS_ADMIN": SYS_ADMIN, "CAP_NET_ADMIN": NET_ADMIN, "CAP_NET_RAW": NET_RAW}
"""What building a lab takes: namespaces, interfaces and routes, captures and echo requests."""

_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def prctl(option: int, first: int = 0, second: int = 0) -> None:
    """Call prctl(2). Raises `OSError`."""
    arguments = [ctypes.c_ulong(value) for value in (first, second, 0, 0)]
    if _libc.prctl(option, *arguments) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def effective() -> frozenset[int]:
    """The numbers of the capabilities that this thread acts with."""
    return _of_status("CapEff")


def missing() -> tuple[str, ...]:
    """The names of those that a lab needs and this thread does not have."""
    have = effective()
    return tuple(name for name, number in NEEDED.items() if number not in have)


def keep_across_exec() -> None:
    """Let programs started from now on have the capabilities of this thread, whoever it runs as.

    Without this only user 0 keeps them. Raises `OSError`.
    """
    permitted = _of_status("CapPrm")
    _capset(permitted, permitted)
    for number in permitted:
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)


def drop_all() -> None:
    """Give up all capabilities of this thread. Raises `OSError`."""
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _capset(frozenset(), frozenset())


def _of_status(field: str) -> frozenset[int]:
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == field:
            return frozenset(_bits(int(value, 16)))
    raise OSError(f"/proc/thread-self/status has no line {field}")


def _bits(mask: int) -> Iterator[int]:
    return (number for number in range(mask.bit_length()) if mask >> number & 1)


def _capset(held: frozenset[int], inheritable: frozenset[int]) -> None:
    data = (_Data * 2)()
    for number in held:
        data[number // 32].effective |= 1 << number % 32
        data[number // 32].permitted |= 1 << number % 32
    for number in inheritable:
        data[number // 32].inheritable |= 1 << number % 32
    if _libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), data) != 0:
        raise OSError(ctypes.get_errno(), f"capset: {os.strerror(ctypes.get_errno())}")
