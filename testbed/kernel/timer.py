"""An alarm with nanosecond resolution that fits into an epoll set (timerfd, time(7))."""

from __future__ import annotations

import ctypes
import os
import time
from typing import TypeAlias

Nanoseconds: TypeAlias = int
SECOND: Nanoseconds = 1_000_000_000
NEVER: Nanoseconds = 1 << 62

_libc = ctypes.CDLL(None, use_errno=True)
_TFD_TIMER_ABSTIME = 1


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Its descriptor is readable from the moment set until the alarm is set anew.

    `epoll` alone waits in whole milliseconds; an epoll set with an alarm in it does not.
    """

    def __init__(self) -> None:
        self._fd: int = _libc.timerfd_create(
            time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC
        )  # TFD_NONBLOCK and TFD_CLOEXEC are the same numbers (include/linux/timerfd.h)
        if self._fd < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"timerfd_create: {os.strerror(error)}")
        self._spec = _TimerSpec()
        self._reference = ctypes.byref(self._spec)

    def fileno(self) -> int:
        return self._fd

    def set(self, moment: Nanoseconds) -> None:
        """Go off at `moment`, ns of the monotonic clock; a moment in the past goes off at once."""
        self._set(max(moment, 1))

    def clear(self) -> None:
        """Do not go off."""
        self._set(0)

    def _set(self, moment: int) -> None:
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(moment, SECOND)
        if _libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._reference, None) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"timerfd_settime: {os.strerror(error)}")

    def close(self) -> None:
        os.close(self._fd)
