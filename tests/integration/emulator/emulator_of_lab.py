"""Finding a running lab's emulator, to stop or to watch it."""

from __future__ import annotations

from testbed.lab import Lab


def emulator_of(lab: Lab) -> int:
    """The number of the process; there must be exactly one."""
    (pid,) = (
        process.pid
        for process in lab._runtime.group._started
        if "testbed.emulator.userspace" in " ".join(process.argv)
    )
    return pid
