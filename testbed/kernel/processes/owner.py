"""Whose a lab is: the process that made it, and no process that was forked from that one."""

from __future__ import annotations

import os

from testbed.errors import LabError


class Owner:
    """The process that this object was made in."""

    def __init__(self) -> None:
        self.pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether the calling process is the owner and no fork of it."""
        return os.getpid() == self.pid

    def check(self) -> None:
        """Raise `LabError` in a forked process, which has none of the lab's threads."""
        if not self.is_here:
            raise LabError(
                f"This lab belongs to process {self.pid}, and process {os.getpid()} was forked "
                "from it. Use the lab in the process that made it, or make another one here; "
                "sockets from before the fork work in both."
            )
