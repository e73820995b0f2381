"""Anonymous network namespaces, held by file descriptors.

A namespace belongs to a thread, so everything that must happen inside one is done by a thread
of its own (`NamespaceThread`): the caller's threads never leave the namespace they are in, and
a Ctrl-C can never strand the main thread in a foreign one. The kernel frees a namespace when
its last descriptor, process and socket are gone, so nothing survives the death of the process.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from testbed.errors import LabError, PrivilegeError
from testbed.kernel.syscalls import CLONE_NEWNET, setns, unshare

P = ParamSpec("P")
R = TypeVar("R")


class NamespaceThread:
    """The thread that enters namespaces on behalf of all others; one for each lab.

    Threads cannot be started from inside `call`, since the thread may be set up to place its
    children into another pid namespace (pid_namespaces(7)).
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="testbed-netns")
        self._ident = self._executor.submit(threading.get_ident).result()
        self._current: int | None = None

    def call(
        self, namespace: int | None, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run `function` inside the namespace (a descriptor; None for wherever the thread is)."""
        if threading.get_ident() == self._ident:
            return self._run(namespace, function, *args, **kwargs)
        return self._executor.submit(
            lambda: self._run(namespace, function, *args, **kwargs)
        ).result()

    def _run(
        self, namespace: int | None, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        if namespace is not None and namespace != self._current:
            setns(namespace, CLONE_NEWNET)
            self._current = namespace
        return function(*args, **kwargs)

    def create_namespace(self) -> Namespace:
        """Make a new, empty namespace.

        Raises `PrivilegeError` where the process may not.
        """
        return self.call(None, self._create)

    def _create(self) -> Namespace:
        try:
            unshare(CLONE_NEWNET)
        except OSError as error:
            if error.errno == errno.EPERM:
                raise PrivilegeError(
                    "Making a network namespace needs CAP_SYS_ADMIN, which this process does not "
                    "have. Run as root, or start it with the `testbed` command, which moves into "
                    "a user namespace by itself where the kernel permits (`testbed doctor` tells)."
                ) from None
            if error.errno == errno.ENOSPC:
                raise LabError(
                    "The kernel's limit of network namespaces is reached; see "
                    "/proc/sys/user/max_net_namespaces."
                ) from None
            raise
        self._current = None
        fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._current = fd
        return Namespace(self, fd)

    def forget(self, namespace: int) -> None:
        """Take note that a descriptor is about to be closed and its number used again."""

        def leave() -> None:
            if self._current == namespace:
                self._current = None

        self.call(None, leave)

    def close(self) -> None:
        self._executor.shutdown(wait=True)


class Namespace:
    """One network namespace; it lives until `close`, or as long as a socket in it does."""

    def __init__(self, thread: NamespaceThread, fd: int) -> None:
        self.thread = thread
        self.fd = fd

    def __repr__(self) -> str:
        return f"<Namespace fd={self.fd}>"

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function` inside this namespace and return its result."""
        if self.fd < 0:
            raise LabError("The network namespace is closed: its lab has been taken down.")
        return self.thread.call(self.fd, function, *args, **kwargs)

    def socket(
        self,
        family: int = socket.AF_INET,
        kind: int = socket.SOCK_STREAM,
        protocol: int = 0,
    ) -> socket.socket:
        """An ordinary socket of this process that lives in this namespace."""
        return self.call(socket.socket, family, kind, protocol)

    def close(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self.thread.forget(fd)
            os.close(fd)
