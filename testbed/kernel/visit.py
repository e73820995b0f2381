"""A thread that moves into a node for good: its network, the names that it resolves, its name.

What a function sees there is what programs in the node see, but for processes: `/proc` is the
node's, in which this process is not. Source: setns(2), which takes a thread that shares its root
and working directory with no other; unshare(2).
"""

from __future__ import annotations

import os
import socket

from testbed.kernel.syscalls import (
    CLONE_FS,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUTS,
    setns,
    unshare,
)


class Destination:
    """Descriptors of a node's network and mounts, and its host name, until it is closed."""

    def __init__(self, network: int, mounts: int, hostname: str) -> None:
        self._network, self._mounts, self._hostname = os.dup(network), os.dup(mounts), hostname

    def __enter__(self) -> Destination:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._network)
        os.close(self._mounts)

    def move_in(self, folder: str) -> None:
        """Have the calling thread, and the threads that it starts, live there from now on.

        folder: its working directory. Raises `OSError`.
        """
        unshare(CLONE_FS | CLONE_NEWUTS)
        socket.sethostname(self._hostname)
        setns(self._network, CLONE_NEWNET)
        setns(self._mounts, CLONE_NEWNS)
        os.chdir(folder)
