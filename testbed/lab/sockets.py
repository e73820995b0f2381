"""The sockets of a lab: ordinary ones, which the lab can wake up and close in the end."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from typing import Any

from testbed.errors import KernelError
from testbed.kernel.namespace import Namespace


class Sockets:
    """All sockets that were made in a lab, and those accepted from them. Safe between threads."""

    def __init__(self) -> None:
        self._known: weakref.WeakSet[LabSocket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._woken = False

    def make(self, namespace: Namespace, family: int, kind: int, protocol: int) -> LabSocket:
        """A socket inside the namespace. Raises `KernelError` when the kernel refuses."""
        try:
            made = namespace.call(LabSocket, family, kind, protocol)
        except OSError as error:
            raise KernelError(
                f"The kernel refused to make a socket (family {int(family)}, type {int(kind)}, "
                f"protocol {protocol}): {os.strerror(error.errno or 0)}."
            ) from error
        self.adopt(made)
        return made

    def adopt(self, made: LabSocket) -> None:
        made.siblings = self
        with self._lock:
            self._known.add(made)
            woken = self._woken
        if woken:
            _wake(made)

    def wake(self) -> None:
        """Shut all down, those to come included, so that nothing waits on them any longer."""
        with self._lock:
            self._woken = True
            known = list(self._known)
        for made in known:
            _wake(made)

    def close(self) -> None:
        """Wake and close all, however many files still refer to them."""
        self.wake()
        with self._lock:
            known = list(self._known)
        for made in known:
            socket.SocketType.close(made)


class LabSocket(socket.socket):
    """An ordinary socket; the lab also knows the connections that it accepts."""

    siblings: Sockets | None = None

    def __del__(self) -> None:
        # Without the warning that it was left open: what is left is for the lab to close.
        self.close()

    def accept(self) -> tuple[socket.socket, Any]:
        plain, address = super().accept()
        made = LabSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
        if self.siblings is not None:
            self.siblings.adopt(made)
        return made, address


def _wake(made: socket.socket) -> None:
    if made.type != socket.SOCK_STREAM and made.gettimeout() is not None:
        # Shut down, it would be readable for ever with nothing to be read from it
        # (net/ipv4/udp.c, __skb_recv_udp): a busy loop instead of a wait that ends by itself.
        return
    # Whoever waits on a socket without a connection is woken too, though this call then fails
    # (net/ipv4/af_inet.c, inet_shutdown).
    with contextlib.suppress(OSError):
        made.shutdown(socket.SHUT_RDWR)
