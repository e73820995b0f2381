"""Anonymous network namespaces, held by file descriptors.

A namespace belongs to a thread, so everything that must happen inside one is done by a thread
of its own (`NamespaceThread`): the caller's threads never leave the namespace they are in, and
a Ctrl-C can never strand the main thread in a foreign one. The kernel frees a namespace when
its last descriptor, process and socket are gone, so nothing survives the death of the process.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from testbed.errors import KernelError, LabError, PrivilegeError, TestbedError
from testbed.kernel.processes import userns
from testbed.kernel.processes.owner import Owner
from testbed.kernel.syscalls import CLONE_NEWNET, setns, unshare

P = ParamSpec("P")
R = TypeVar("R")


class NamespaceThread:
    """The thread that enters namespaces on behalf of all others; one for each lab.

    Whatever runs in it runs to its end: signals interrupt only the main thread. Threads cannot be
    started from inside it, since it may be set up to place its children into another pid
    namespace (pid_namespaces(7)).
    """

    def __init__(self) -> None:
        self.owner = Owner()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="testbed-netns")
        self._ident = self._executor.submit(threading.get_ident).result()
        self._current: Namespace | None = None  # the one that it is in
        self._wanted: Namespace | None = None  # that which the function being run is to see

    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have a function run in the thread, in whatever namespace, after those already waiting.

        Raises `LabError` after `close`, and in a process that was forked from the thread's.
        """
        self.owner.check()
        try:
            return self._executor.submit(function, *args, **kwargs)
        except RuntimeError:
            raise LabError("The lab has been taken down.") from None

    def call(
        self,
        namespace: Namespace | None,
        function: Callable[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Run `function` inside the namespace (None for wherever the thread is).

        Raises `LabError` when the namespace, or the thread, is closed.
        """
        if threading.get_ident() == self._ident:
            return self._run(namespace, function, *args, **kwargs)
        return self.submit(lambda: self._run(namespace, function, *args, **kwargs)).result()

    def _run(
        self,
        namespace: Namespace | None,
        function: Callable[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        before, self._wanted = self._wanted, namespace
        try:
            if namespace is not None:
                self._enter(namespace)
            return function(*args, **kwargs)
        finally:
            self._wanted = before
            if before is not None:
                self._enter(before)

    def _enter(self, namespace: Namespace) -> None:
        fd = namespace.fileno()  # refuses a closed one, even if the thread is still in it
        if namespace is not self._current:
            setns(fd, CLONE_NEWNET)
            self._current = namespace

    def create_namespace(self) -> Namespace:
        """Make a new, empty namespace.

        Raises `PrivilegeError` where the process may not, `KernelError` where there are too many.
        """
        return self.call(None, self._create)

    def _create(self) -> Namespace:
        try:
            unshare(CLONE_NEWNET)
            self._current = None
            fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _refusal(error) from error
        self._current = Namespace(self, fd)
        return self._current

    def close(self) -> None:
        """End the thread, once it has done all that was submitted."""
        self._executor.shutdown(wait=True)


def _refusal(error: OSError) -> TestbedError:
    if error.errno == errno.EPERM:
        return PrivilegeError(
            "Making a network namespace needs CAP_SYS_ADMIN, which this process does not have. Run "
            f"as root, or in a user namespace: `testbed exec FILE` runs a Python program in one, "
            f"`{userns.BY_HAND} COMMAND` any other; `testbed doctor` tells what this machine "
            "permits."
        )
    if error.errno == errno.ENOSPC:
        return KernelError(
            "No more network namespaces can be made: the kernel's limit is reached. See "
            "/proc/sys/user/max_net_namespaces."
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return KernelError(
            "No more network namespaces can be held: too many files are open. `ulimit -n` shows "
            "the limit, `ulimit -Hn` how far it can be raised."
        )
    return KernelError(
        f"The kernel refused to make a network namespace: {os.strerror(error.errno or 0)}."
    )


class Namespace:
    """One network namespace; it lives until `close`, or as long as a socket in it does."""

    def __init__(self, thread: NamespaceThread, fd: int) -> None:
        self._thread = thread
        self._fd = fd

    def __repr__(self) -> str:
        return f"<Namespace {'closed' if self._fd < 0 else f'fd={self._fd}'}>"

    def fileno(self) -> int:
        """The descriptor that holds it. Raises `LabError` once it is closed."""
        if self._fd < 0:
            raise LabError("The network namespace is closed: its lab has been taken down.")
        return self._fd

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function` inside this namespace and return its result.

        Raises `LabError` once the namespace is closed.
        """
        return self._thread.call(self, function, *args, **kwargs)

    def close(self) -> None:
        """Give it up. The kernel frees it, in the background, when its last socket is closed."""
        self._thread.call(None, self._close)

    def _close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
