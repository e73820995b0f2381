"""Two namespaces joined by one emulated link, built by hand, for tests of the emulator alone."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from testbed.emulator.userspace import UserspaceEmulator
from testbed.kernel.control import ControlChannel
from testbed.topology.model import Impairments

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TAP_NO_PI = 0x0002 | 0x1000
_T = TypeVar("_T")


class Node:
    """An anonymous namespace with one TAP, `eth0`; everything ends with `close`."""

    def __init__(self, number: int) -> None:
        self.address = f"10.9.0.{number}"
        self.mac = f"02:00:00:00:00:{number:02x}"
        self.fd = _in_thread(_new_namespace)
        self.tap: int = self.do(_open_tap)

    def do(self, function: Callable[[], _T]) -> _T:
        """Call `function` in a thread inside the namespace."""

        def inside() -> _T:
            _check(_libc.setns(self.fd, _CLONE_NEWNET))
            return function()

        return _in_thread(inside)

    def run(self, *argv: str) -> None:
        self.do(lambda: subprocess.run(argv, check=True))

    def configure(self, peer: Node) -> None:
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "set", "eth0", "address", self.mac, "txqueuelen", "10000", "up")
        self.run("ip", "address", "replace", f"{self.address}/24", "dev", "eth0")
        self.run(
            *f"ip neighbour replace {peer.address} lladdr {peer.mac} dev eth0".split(),
            *["nud", "permanent"],
        )

    def socket(self, kind: int = socket.SOCK_DGRAM, family: int = socket.AF_INET) -> socket.socket:
        return self.do(lambda: socket.socket(family, kind))

    def packet_socket(self, protocol: int) -> socket.socket:
        """Raw frames of eth0."""

        def make() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
            made.bind(("eth0", protocol))
            return made

        return self.do(make)

    def close(self) -> None:
        os.close(self.tap)
        os.close(self.fd)


class EmulatedPair:
    """Nodes `a` and `b`, and the link called `wire` between them in an emulator process."""

    def __init__(self, forward: Impairments, reverse: Impairments, seed: int = 0) -> None:
        self._stack = contextlib.ExitStack()
        self.a, self.b = (self._stack.enter_context(contextlib.closing(Node(n))) for n in (1, 2))
        self.a.configure(self.b)
        self.b.configure(self.a)
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = self._stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "testbed.emulator", "--control", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                )
            )
        channel = self._stack.enter_context(contextlib.closing(ControlChannel(ours, "emulator")))
        self.emulator = UserspaceEmulator(channel)
        self.emulator.add_link("wire", self.a.tap, self.b.tap, forward, reverse, seed)

    def cpu_seconds(self) -> float:
        """Processor time that the emulator has used."""
        with open(f"/proc/{self.process.pid}/stat") as file:  # noqa: PTH123
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> EmulatedPair:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _open_tap() -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", b"eth0", _IFF_TAP_NO_PI))
    return fd


def _new_namespace() -> int:
    _check(_libc.unshare(_CLONE_NEWNET))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _in_thread(function: Callable[[], _T]) -> _T:
    outcome: dict[str, Any] = {}

    def call() -> None:
        try:
            outcome["value"] = function()
        except (OSError, subprocess.SubprocessError) as error:
            outcome["error"] = error

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
