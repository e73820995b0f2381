"""Whose a container is: what its labels say, and the removal of those whose owner is dead."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

import msgspec

from testbed.containers.engine import ContainerEngine

LAB: Final = "testbed.lab"
OWNER: Final = "testbed.owner"

#: Of /proc/PID/stat, behind the name of the program: the field starttime (proc_pid_stat(5)).
_STARTED: Final = 19


class OwnerLabel(msgspec.Struct, frozen=True):
    """The thread of a lab, which ends with it, told from all that this machine ever ran.

    boot: the boot of the kernel. process, thread: their numbers in the pid namespace `pids`.
    started: when the thread was, in clock ticks since the boot: numbers are given again.
    """

    boot: str
    pids: int
    process: int
    thread: int
    started: int

    @classmethod
    def of_this_thread(cls) -> OwnerLabel:
        """The calling thread."""
        thread = threading.get_native_id()
        started = _started(thread)
        assert started is not None
        return cls(_boot(), _pid_namespace(), os.getpid(), thread, started)

    @property
    def is_dead(self) -> bool:
        """Whether it is known to be; nothing is known of another pid namespace's threads."""
        if self.boot != _boot():
            return True
        return self.pids == _pid_namespace() and _started(self.thread) != self.started


def sweep(engine: ContainerEngine) -> int:
    """Remove the containers of labs that have ended without doing so; their number."""
    with engine.blame("list of containers"):
        found = engine.api.containers(all=True, filters={"label": OWNER})
    orphans = [one["Id"] for one in found if _belongs_to_the_dead(one["Labels"].get(OWNER, ""))]
    for container in orphans:
        engine.remove(container)
    return len(orphans)


def _belongs_to_the_dead(label: str) -> bool:
    try:
        return msgspec.json.decode(label, type=OwnerLabel).is_dead
    except msgspec.DecodeError:
        return False  # not a label of ours


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _started(thread: int) -> int | None:
    """When a thread began; None where there is none, or only what is left of one."""
    try:
        fields = Path(f"/proc/{thread}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[_STARTED])
