"""A node's own TCP in place of the kernel's: the thread that drives it, and sockets of it.

The kernel leads TCP packets for the node's addresses into a TUN device (`testbed.lab.kinds.host`),
from which a thread of this process reads them; what the TCP sends goes the same way back.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from testbed.kernel.load_sharing import LoadSharing
from testbed.kernel.realtime import RealtimeLoop
from testbed.middlebox.timers import Timers
from testbed.transport.connection import TcpConnection
from testbed.transport.host import TcpHost, TcpListener
from testbed.transport.settings import TcpSettings
from testbed.wire.ip import LARGEST
from testbed.wire.packet import OUTSIDE, Packet

_BATCH: Final = 64  # packets between two looks at timers and programs
_LEAST_BUFFER: Final = 2048

Address: TypeAlias = tuple[str, int]

# What `setsockopt` knows, and which setting that is.
_OPTIONS: Final = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): "keepalive",
    (socket.SOL_SOCKET, socket.SO_RCVBUF): "receive_buffer",
    (socket.SOL_SOCKET, socket.SO_SNDBUF): "send_buffer",
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): "keepalive_idle",
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): "keepalive_interval",
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): "keepalive_probes",
    (socket.IPPROTO_TCP, socket.TCP_MAXSEG): "largest_segment",
}
# Sysctls of a node that say what its TCP offers.
_SYSCTLS: Final = {
    "net.ipv4.tcp_sack": "sack",
    "net.ipv4.tcp_timestamps": "timestamps",
    "net.ipv4.tcp_window_scaling": "window_scaling",
}


def settings_of(sysctls: dict[str, str]) -> TcpSettings:
    """What a node's sysctls say of its connections."""
    given = {field: sysctls[name] != "0" for name, field in _SYSCTLS.items() if name in sysctls}
    return msgspec.structs.replace(TcpSettings(), **given)


class TcpDriver:
    """Drives a `TcpHost` on the descriptor of a TUN device, which it closes in the end.

    All of the host is used with `state` held, which is notified of every change.
    """

    def __init__(self, fd: int, *, mtu: int, fault: str | None, settings: TcpSettings) -> None:
        self.state = threading.Condition()
        self.settings = settings
        self._fd = fd
        self._wake_up = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._timers = Timers(time.monotonic)
        self.host = TcpHost(
            self,
            self._transmit,
            secrets.randbits,
            mtu=mtu,
            fault=fault,
            changed=self.state.notify_all,
        )
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="testbed-tcp", daemon=True)

    # The clock of the host

    def now(self) -> float:
        return self._timers.clock()

    @property
    def call_later(self) -> Callable[..., Any]:
        return self._timers.call_later

    def _transmit(self, packet: bytearray) -> None:
        if not self._ending:  # afterwards the descriptor is another's
            with contextlib.suppress(OSError):  # a full queue loses packets, as everywhere
                os.write(self._fd, packet)

    def begin(self) -> None:
        """Carry packets from now on. Not to be called in the lab's own thread."""
        self._thread.start()

    def close(self) -> None:
        """Carry nothing more; whoever waits is told."""
        with self.state:
            self._ending = True
            self.state.notify_all()
        os.eventfd_write(self._wake_up, 1)
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._fd)
        os.close(self._wake_up)

    @property
    def ended(self) -> bool:
        return self._ending

    def wake(self) -> None:
        """Look at timers anew: something may be due earlier."""
        if not self._ending:
            os.eventfd_write(self._wake_up, 1)

    def _run(self) -> None:
        loop = RealtimeLoop(LoadSharing())
        for fd in (self._fd, self._wake_up):
            loop.register(fd)
        packet, buffer = Packet(), bytearray(LARGEST)
        with open(self._fd, "rb", buffering=0, closefd=False) as device:
            while not self._ending:
                with self.state:
                    due = self._timers.next_due()
                if self._wake_up in loop.wait(due):
                    os.eventfd_read(self._wake_up)
                with self.state:
                    for _ in range(_BATCH):
                        length = device.readinto(buffer)
                        if not length:
                            break
                        if packet.load(buffer, length, OUTSIDE):
                            self.host.receive(packet)
                    self._timers.fire()
        loop.close()


class StreamSocket(Protocol):
    """What sockets of either TCP can do, as of `socket.socket`."""

    def settimeout(self, seconds: float | None, /) -> None: ...
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...
    def bind(self, address: Address, /) -> None: ...
    def listen(self, backlog: int = ..., /) -> None: ...
    def accept(self) -> tuple[StreamSocket, Address]: ...
    def connect(self, address: Address, /) -> None: ...
    def send(self, data: bytes, /) -> int: ...
    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, limit: int, /) -> bytes: ...
    def shutdown(self, how: int, /) -> None: ...
    def getsockname(self) -> Address: ...
    def close(self) -> None: ...


class UserspaceSocket:
    """A TCP socket of a `TcpDriver`, as `socket.socket` is one of the kernel.

    It has of that class what stream sockets need: bind, listen, accept, connect, send, sendall,
    recv, shutdown, settimeout, setsockopt, close. Errors are those of the kernel's sockets.
    """

    def __init__(self, driver: TcpDriver, address: str) -> None:
        self._driver = driver
        self._own: Address = (address, 0)
        self._settings = driver.settings
        self._timeout: float | None = None
        self._listener: TcpListener | None = None
        self._connection: TcpConnection | None = None

    def __enter__(self) -> UserspaceSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def settimeout(self, seconds: float | None, /) -> None:
        """How long calls may wait; None for ever."""
        self._timeout = seconds

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Set one of the options that there are. Raises OSError for others."""
        field = _OPTIONS.get((level, option))
        if field is None:
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        kept: int | bool = value
        if field == "keepalive":
            kept = bool(value)
        elif field.endswith("_buffer"):
            kept = max(value, _LEAST_BUFFER)
        self._settings = msgspec.structs.replace(self._settings, **{field: kept})
        if self._connection is not None:
            with self._driver.state:
                self._connection.settings = self._settings
                if field.startswith("keepalive"):
                    self._connection.keep_alive()
            self._driver.wake()

    def bind(self, address: Address, /) -> None:
        self._own = address

    def listen(self, backlog: int = 128, /) -> None:
        host, port = self._own
        with self._driver.state:
            self._listener = self._driver.host.listen(_packed(host), port, self._settings, backlog)

    def accept(self) -> tuple[UserspaceSocket, Address]:
        """The next connection that was opened, and whence."""
        listener = self._listener
        if listener is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        with self._driver.state:
            self._await(lambda: bool(listener.ready) or self._listener is None)
            if self._listener is None:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            connection = listener.ready.popleft()
        made = UserspaceSocket(self._driver, self._own[0])
        made._connection, made._settings = connection, connection.settings
        key = connection.key
        width = (len(key) - 4) // 2
        peer = str(ipaddress.ip_address(key[width : 2 * width]))
        return made, (peer, int.from_bytes(key[-2:], "big"))

    def connect(self, address: Address, /) -> None:
        """Open a connection, and wait until it is open."""
        host, port = address
        with self._driver.state:
            connection = self._connection = self._driver.host.connect(
                (_packed(self._own[0]), self._own[1]), (_packed(host), port), self._settings
            )
            self._driver.wake()
            self._await(lambda: connection.phase not in ("syn-sent", "syn-received"))
            self._check(connection)

    def send(self, data: bytes | memoryview, /) -> int:
        """Hand over as much as there is room for, at least a byte."""
        with self._driver.state:
            connection = self._open()
            self._await(lambda: connection.room > 0 or connection.phase != "synchronized")
            self._check(connection)
            if connection.ending or connection.phase != "synchronized":
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            taken = connection.write(data)
        self._driver.wake()
        return taken

    def sendall(self, data: bytes, /) -> None:
        """Hand over all."""
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]

    def recv(self, limit: int, /) -> bytes:
        """What has arrived, once something has; empty at the end."""
        with self._driver.state:
            connection = self._open()
            self._await(lambda: connection.readable)
            data = connection.read(limit)
            if not data:
                self._check(connection)
        self._driver.wake()
        return data

    def shutdown(self, how: int, /) -> None:
        """With SHUT_WR, say that there is nothing more to send."""
        with self._driver.state:
            if how != socket.SHUT_RD:
                self._open().finish()
        self._driver.wake()

    def getsockname(self) -> Address:
        if self._connection is None:
            return self._own
        return self._own[0], int.from_bytes(self._connection.key[-4:-2], "big")

    def close(self) -> None:
        """Give it up: what was sent still arrives, or a reset says that it was not read."""
        with self._driver.state:
            if self._connection is not None:
                self._connection.close()
            if self._listener is not None:
                self._driver.host.forget(self._listener)
                self._listener = None
                self._driver.state.notify_all()
        self._driver.wake()

    def _open(self) -> TcpConnection:
        if self._connection is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._connection

    def _await(self, condition: Callable[[], bool]) -> None:
        """Raises TimeoutError when it takes too long, OSError when the lab ends."""
        done = self._driver.state.wait_for(lambda: condition() or self._driver.ended, self._timeout)
        if self._driver.ended:
            raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))
        if not done:
            raise TimeoutError("timed out")

    def _check(self, connection: TcpConnection) -> None:
        """Raise what has ended it, once, as the kernel does."""
        error, connection.error = connection.error, 0
        if error:
            raise OSError(error, os.strerror(error))


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed
