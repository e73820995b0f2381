"""A node of a running lab."""

from __future__ import annotations

import asyncio
import os
import socket as sockets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeAlias, TypeVar, cast

import msgspec

from testbed.errors import CommandFailed, LabError
from testbed.kernel import sysctl
from testbed.kernel.namespace import Namespace
from testbed.kernel.netlink.sock_diag import SocketState, open_sockets
from testbed.kernel.netstat import protocol_counters
from testbed.kernel.processes.confinement import Confinement
from testbed.kernel.processes.group import NodeView
from testbed.kernel.processes.process import Process, await_readable, deadline_in, time_left
from testbed.lab.ping import open_socket, ping
from testbed.lab.ports import Port, listening_ports, parse_port
from testbed.lab.runtime import Runtime
from testbed.lab.userspace_tcp import StreamSocket, TcpDriver, UserspaceSocket
from testbed.middlebox.client import FunctionHandle, MiddleboxClient
from testbed.middlebox.statistics import (
    StatisticsKind,
    TcpStatistics,
    check_kind,
    tcp_statistics,
)
from testbed.topology.names import is_address, unknown_node
from testbed.topology.planning.plan_model import Plan, PlannedNode

if TYPE_CHECKING:
    from testbed.middlebox.counters import BoxCounters, FunctionState

# `socket` is the name of a method below.
Socket: TypeAlias = sockets.socket

P = ParamSpec("P")
R = TypeVar("R")

_POLL_SECONDS = 0.01
_LAST_MOMENTS = 0.1


class Completed(msgspec.Struct, frozen=True):
    """A program that ran to its end; its output as text and as it was written."""

    argv: tuple[str, ...]
    status: int
    stdout_bytes: bytes
    stderr_bytes: bytes

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self.stderr_bytes.decode(errors="replace")


class LabNode:
    """One node: makes sockets and runs programs inside its namespace.

    Got by `lab["name"]`; usable from any thread. `check()` raises what has gone wrong with the
    lab in the background.
    """

    def __init__(
        self,
        planned: PlannedNode,
        plan: Plan,
        namespace: Namespace,
        runtime: Runtime,
    ) -> None:
        self.planned = planned
        self.namespace = namespace
        self.middlebox: MiddleboxClient | None = None
        self.tcp: TcpDriver | None = None
        self._view: NodeView | Confinement = runtime.view(planned.name)
        self._plan = plan
        self._runtime = runtime
        self.check = runtime.check

    def __repr__(self) -> str:
        return f"<LabNode {self.name} ({self.kind}) {', '.join(self.addresses())}>"

    @property
    def name(self) -> str:
        return self.planned.name

    @property
    def kind(self) -> str:
        return self.planned.kind

    def addresses(self, family: int = 4) -> tuple[str, ...]:
        """The node's addresses of IPv4 or IPv6, in the order of its interfaces."""
        return self._plan.addresses(self.name, family)

    @property
    def address(self) -> str:
        """The address that the node's name stands for: the first of the family that the topology
        prefers, IPv4 by default, or of the other where there is none."""
        found = self._plan.address(self.name)
        if found is None:
            raise LabError(f"The node '{self.name}' has no address.")
        return found

    @property
    def address6(self) -> str:
        """The first IPv6 address."""
        return self.first_address(6)

    def first_address(self, family: int) -> str:
        """The first address of IPv4 or IPv6."""
        addresses = self.addresses(family)
        if not addresses:
            raise LabError(f"The node '{self.name}' has no IPv{family} address.")
        return addresses[0]

    def socket(self, family: int = AF_INET, kind: int = SOCK_STREAM, protocol: int = 0) -> Socket:
        """An ordinary socket that lives in this node; the lab closes it at the latest."""
        self.check()
        return self._runtime.sockets.make(self.namespace, family, kind, protocol)

    def tcp_socket(self, family: int = AF_INET) -> StreamSocket:
        """A TCP socket of the node, whose TCP may be the kernel's or the testbed's own."""
        if self.tcp is None:
            return self.socket(family)
        self.check()
        return UserspaceSocket(self.tcp, self.address6 if family == AF_INET6 else self.address)

    def listen(self, port: int = 0, *, address: str | None = None, backlog: int = 128) -> Socket:
        """A listening TCP socket on the node's `address`, or on the one given."""
        where = address or self.address
        sock = self.socket(AF_INET6 if ":" in where else AF_INET)
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        try:
            sock.bind((where, port))
        except OSError as error:
            sock.close()
            raise LabError(
                f"The node '{self.name}' cannot listen on {where} port {port}: "
                f"{os.strerror(error.errno or 0)}. Its addresses are "
                f"{', '.join(self.addresses(4) + self.addresses(6))}."
            ) from None
        sock.listen(backlog)
        return sock

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a Python function in this node and return its result; `acall` is its coroutine.

        The function runs in a thread of its own that lives in the node: sockets are made there,
        names of nodes are resolved, threads that it starts live there, too. Calls block no other
        call, of this node or of others; `call(asyncio.run, main())` runs a coroutine. Raises what
        the function raises, and the failure of the lab as soon as it has failed.
        """
        return cast(R, self._call(function, *args, **kwargs).result())

    async def acall(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`call`, to be awaited. Cancelled, it lets the function run on and drops its result."""
        call = asyncio.to_thread(self._call, function, *args, **kwargs)
        return cast(R, await asyncio.wrap_future(await call))

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        return self._runtime.call(self.name, self.namespace, function, *args, **kwargs)

    def ping(self, target: str | LabNode, timeout: float = 2.0) -> float:
        """The round-trip time in seconds of one ICMP echo.

        target: a node, its name, or an address. Raises `LabError` without a reply.
        """
        self.check()
        address = self._resolve(target.name if isinstance(target, LabNode) else target)
        with self.namespace.call(open_socket, address) as sock:
            return ping(sock, address, timeout)

    def _resolve(self, target: str) -> str:
        if target not in self._plan.nodes:
            if not is_address(target):
                raise LabError(f"No ping: {unknown_node(target, self._plan.nodes)}.")
            return target
        address = self._plan.address(target, self.name)
        if address is None:
            raise LabError(f"The node '{target}' has no address that '{self.name}' reaches.")
        return address

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        input: str | bytes | None = None,
        timeout: float | None = 60.0,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> Completed:
        """Run a program in the node to its end.

        input: what it reads from its standard input. Names of nodes are known to it, and its
        machine is the node: host name, /proc, /sys.

        Raises `CommandFailed` with argv, status and both streams when the status is not 0
        (unless `check` is off), after `timeout` seconds, or when it writes more than 64 MiB;
        `MissingProgram` when there is none.
        """
        stdin = input.encode() if isinstance(input, str) else input
        process = self._start(argv, stdin=stdin, env=env, cwd=cwd)
        try:
            process.finish(timeout)
        except CommandFailed as error:
            self.check()  # a lab that has failed kills its programs
            if check or error.status is None or error.status == 0:
                raise
        return Completed(process.argv, process.wait(), *process.output())

    def start(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        listening: int | str | None = None,
        ready_fd: bool = False,
        timeout: float = 10.0,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        pass_fds: Sequence[int] = (),
        streams: tuple[int, int, int] | None = None,
        terminal: bool = False,
    ) -> Process:
        """Start a program in the node and return when it is ready.

        listening: a port that it will listen on, 80 or `"80/tcp"` or `"53/udp"`. ready_fd: it gets
        the number of a descriptor in the environment variable TESTBED_READY_FD and writes to it
        when ready. What it writes is told by `stdout_text()` and `stderr_text()`; streams: its
        standard input, output and errors are these descriptors instead, and with `terminal` the
        first is its controlling terminal.

        Raises `CommandFailed` when it ends before that, or is not ready in `timeout` s.
        """
        awaited = None if listening is None else parse_port(listening)
        if awaited is not None and awaited.number in self.listening_ports(awaited.protocol):
            raise LabError(
                f"Something listens on port {awaited} of node '{self.name}' already, so "
                f"'{os.fspath(argv[0])}' cannot."
            )
        options: dict[str, Any] = {"env": env, "cwd": cwd, "pass_fds": pass_fds}
        options |= {"streams": streams, "terminal": terminal}
        if ready_fd:
            process = self._start_telling(argv, options, timeout)
        else:
            process = self._start(argv, **options)
        if awaited is not None:
            self._await_listening(process, awaited, timeout)
        return process

    def _start(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> Process:
        return self._runtime.start_program(self._view, self.namespace, argv, **options)

    @property
    def _environment(self) -> Mapping[str, str]:
        """That of programs which are given none."""
        return self._view.environment if isinstance(self._view, Confinement) else os.environ

    def _start_telling(
        self, argv: Sequence[str | os.PathLike[str]], options: dict[str, Any], timeout: float
    ) -> Process:
        """Start a program that tells by a descriptor that it is ready."""
        read, write = os.pipe2(os.O_CLOEXEC)
        try:
            env = self._environment if options["env"] is None else options["env"]
            options["env"] = {**env, "TESTBED_READY_FD": str(write)}
            options["pass_fds"] = [*options["pass_fds"], write]
            process = self._start(argv, **options)
            os.close(write)
            write = -1
            # What cannot be read is the end of file: it has closed it, or is dead.
            if not await_readable(read, timeout) or not os.read(read, 1):
                raise self._not_ready(process, "not ready")
        finally:
            os.close(read)
            if write >= 0:
                os.close(write)
        return process

    def _await_listening(self, process: Process, port: Port, timeout: float) -> None:
        deadline = deadline_in(timeout)
        while port.number not in self.listening_ports(port.protocol):
            if process.ended_within(_POLL_SECONDS) or not time_left(deadline):
                raise self._not_ready(process, f"not listening on port {port}")

    def _not_ready(self, process: Process, complaint: str) -> CommandFailed:
        # Both ends of its life are near each other when it closes its files: which came first?
        status = process.wait() if process.ended_within(_LAST_MOMENTS) else None
        ended = "still running" if status is None else f"ended with status {status}"
        words = process.said_last()
        process.kill()
        process.stop()
        self.check()  # a lab that has failed kills its programs
        return CommandFailed(
            process.argv, status, "", words, f"{complaint} in node '{self.name}' ({ended})"
        )

    def listening_ports(self, protocol: Literal["tcp", "udp"] = "tcp") -> set[int]:
        """The TCP or UDP ports that something in the node listens on (proc_net(5))."""
        self.check()
        return self.namespace.call(listening_ports, protocol)

    def open_sockets(self) -> list[SocketState]:
        """The TCP and UDP sockets of the node, TCP's with TCP_INFO (sock_diag(7))."""
        self.check()
        return self.namespace.call(open_sockets)

    def protocol_counters(self) -> dict[str, dict[str, int]]:
        """What the node's kernel has counted, by protocol, without what is 0 (proc_net(5))."""
        self.check()
        return self.namespace.call(protocol_counters)

    def sysctl(self, name: str) -> str:
        """Read a sysctl of the node, such as `net.ipv4.tcp_sack`."""
        self.check()
        return self.namespace.call(sysctl.read, name)

    def set_sysctl(self, name: str, value: str | int) -> None:
        """Set a sysctl of the node and read it back."""
        self.check()
        self.namespace.call(sysctl.write, {name: str(value)})

    def function(self, name: str) -> FunctionHandle:
        """A function of this middlebox, to be switched or re-configured while traffic runs."""
        return self._box().function(name)

    def functions(self) -> Mapping[str, FunctionState]:
        """All functions of this middlebox by name, as they are now, the outermost first."""
        return self._box().functions()

    def counters(self) -> BoxCounters:
        """What this middlebox did to every packet."""
        return self._box().counters()

    def log(self, last: int = 20) -> list[str]:
        """The newest lines, the newest last, of what this middlebox's function `trace-log` has
        logged, across the files. Raises `LabError` where there is none.
        """
        return self._box().log(last)

    def keep_log(self, folder: Path) -> None:
        """Write what there is to be read after a failure into the folder; nothing here."""

    def statistics(self, kind: StatisticsKind) -> TcpStatistics:
        """What this middlebox has counted, in the terms of a router: `tcp` is the one kind there
        is, and the function `fast-open` keeps it.

        Raises `LabError` for another kind.
        """
        check_kind(kind)
        states = self._box().functions().values()
        outside = ", ".join(self.planned.outside)
        return tcp_statistics(outside, self.name, (state.counters for state in states))

    def _box(self) -> MiddleboxClient:
        self.check()
        if self.middlebox is None:
            raise LabError(
                f"The node '{self.name}' is a {self.kind} and has no functions; "
                "give it `kind: middlebox`."
            )
        return self.middlebox
