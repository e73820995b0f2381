"""Programs that run inside a lab, and never outlive it.

All of them live in one pid namespace whose first process (guard.py) watches this process and
waits on a socket from it. When this process ends, whatever ends it, that first process ends, and
the kernel kills everything else in the pid namespace (pid_namespaces(7)), also where a fork of
this process lives on. Programs of a node live in a pid namespace of the node's below that one,
with mounts of its own (node_init.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from socket import gethostname
from typing import IO, Any

import msgspec

from testbed.errors import (
    CommandFailed,
    LabError,
    MissingProgram,
    PrivilegeError,
    TestbedError,
)
from testbed.kernel.namespace import Namespace, NamespaceThread
from testbed.kernel.processes import guard, node_init
from testbed.kernel.processes.confinement import Confinement
from testbed.kernel.processes.descendants import descendants_of_what_is_started
from testbed.kernel.processes.entrance import entrance
from testbed.kernel.processes.output import OutputFile
from testbed.kernel.processes.process import Process, find_program
from testbed.kernel.syscalls import CLONE_NEWNS, CLONE_NEWPID, setns, unshare
from testbed.kernel.visit import Destination

_NO_RESOLVER = "# Names of nodes are in /etc/hosts; there is no other resolver here.\n"


class NodeView(msgspec.Struct, frozen=True):
    """What programs in a node take for their machine.

    name: its host name. hosts, address_selection: the content of /etc/hosts and /etc/gai.conf.
    """

    name: str
    hosts: str
    address_selection: str


class _Namespaces(msgspec.Struct, frozen=True):
    """Descriptors of what a program is started in; the mounts of this process where None."""

    pids: int
    mounts: int | None = None


class ProcessGroup:
    """Starts programs in namespaces; all end with `close`, or with this process."""

    def __init__(self, thread: NamespaceThread) -> None:
        self._thread = thread
        self._lock = threading.Lock()
        self._guard: subprocess.Popen[bytes] | None = None
        self._guard_socket: socket.socket | None = None  # the guard ends when it is shut down
        self._namespaces = _Namespaces(-1)
        self._of_nodes: dict[str, _Namespaces] = {}
        self._host_mounts = -1
        self._ended = False
        self._outputs: weakref.WeakSet[OutputFile] = weakref.WeakSet()
        self._started: dict[Process, None] = {}  # in this order, and not yet collected
        self._strangers: list[int] = []

    def _start_guard(self) -> None:
        """Make the pid namespace of all programs."""
        program = find_program("unshare", "util-linux")
        python = [sys.executable, "-I", "-S", str(Path(guard.__file__).resolve())]
        ours, theirs = socket.socketpair()
        owner = os.pidfd_open(os.getpid())
        try:
            with theirs:
                process = subprocess.Popen(
                    [program, "--pid", "--fork", *python, str(owner)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                    pass_fds=[owner],
                )
        finally:
            os.close(owner)
        assert process.stdout is not None
        if process.stdout.read(1) != guard.READY:
            ours.close()
            _, reason = process.communicate()
            raise PrivilegeError(
                "A pid namespace for the lab's programs could not be made: "
                f"{reason.decode(errors='replace').strip()}. "
                "It needs CAP_SYS_ADMIN; `testbed doctor` tells what this machine allows."
            )
        with self._lock:
            self._guard, self._guard_socket = process, ours
        self._namespaces = _Namespaces(_open(f"/proc/{process.pid}/ns/pid_for_children"))
        setns(self._namespaces.pids, CLONE_NEWPID)
        # A copy of the mounts, which this thread alone has, so that it can enter those of
        # nodes and come back, also in a user namespace (mount_namespaces(7)).
        unshare(CLONE_NEWNS)
        self._host_mounts = _open("/proc/thread-self/ns/mnt")

    def _namespaces_of(self, view: NodeView | Confinement | None) -> _Namespaces:
        """Those of a node, made with its first program; those of the lab for helper processes."""
        if view is None:
            return self._namespaces
        if isinstance(view, Confinement):
            return _Namespaces(view.pids)
        if view.name not in self._of_nodes:
            self._of_nodes[view.name] = _make_namespaces(view)
        return self._of_nodes[view.name]

    def destination(self, namespace: Namespace, view: NodeView) -> Destination:
        """Where a thread of this process goes to be in a node, as the node's programs are."""

        def find() -> Destination:
            self._begin()
            mounts = self._namespaces_of(view).mounts
            assert mounts is not None  # every node has some
            return Destination(namespace.fileno(), mounts, view.name)

        return self._thread.call(None, find)

    def _begin(self) -> None:
        """Raise `LabError` after the end; have the namespaces of the lab's programs."""
        if self._ended:
            raise LabError("The lab has been taken down and starts no more programs.")
        if self._guard is None:
            self._start_guard()

    @contextlib.contextmanager
    def _inside(self, namespaces: _Namespaces) -> Iterator[None]:
        """Have this thread's children born into namespaces."""
        if namespaces is self._namespaces:
            yield
            return
        setns(namespaces.pids, CLONE_NEWPID)
        try:
            if namespaces.mounts is not None:
                setns(namespaces.mounts, CLONE_NEWNS)
            yield
        finally:
            if namespaces.mounts is not None:
                setns(self._host_mounts, CLONE_NEWNS)
            setns(self._namespaces.pids, CLONE_NEWPID)

    def kill_too(self, process: int) -> None:
        """Kill this process, told by its descriptor, with all programs of the group.

        It is the first of a pid namespace in which others of them are born.
        """
        with self._lock:
            self._strangers.append(process)

    def let_go_of(self, namespaces: Sequence[Namespace]) -> None:
        """Have the kernel free these soon after the end, open connections in them or not.

        For namespaces whose connections end with the processes of this group, unacknowledged.
        """
        with self._lock:
            for start in range(0, len(namespaces), guard.MOST_DESCRIPTORS):
                some = namespaces[start : start + guard.MOST_DESCRIPTORS]
                if self._guard_socket is not None:
                    socket.send_fds(self._guard_socket, [b"n"], [one.fileno() for one in some])

    def start(
        self,
        namespace: Namespace,
        argv: Sequence[str | os.PathLike[str]],
        *,
        view: NodeView | Confinement | None = None,
        stdin: bytes | None = None,
        stdout_file: IO[Any] | None = None,
        stderr_pipe: bool = False,
        streams: tuple[int, int, int] | None = None,
        terminal: bool = False,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> Process:
        """Start a program inside the namespace.

        view: what it sees of its machine; the host where None. A program in a container is one of
        the container's files. stdin: what it reads. Its output
        goes to files that `Process` reads, or to a file of the caller's (`stdout_file`). streams:
        descriptors that are its standard streams instead of all that. It gets a session of its
        own, so that a Ctrl-C at the terminal reaches only this process, which then ends the
        program in order; with `terminal` its input becomes the session's terminal.

        Raises `MissingProgram`, and `CommandFailed` for a program that cannot be executed.
        """
        inside = view if isinstance(view, Confinement) else None
        words = _words(argv) if inside is None else _plain_words(argv)
        stdout = OutputFile() if stdout_file is None and streams is None else None
        stderr = None if stderr_pipe or streams is not None else OutputFile()
        self._outputs |= {one for one in (stdout, stderr) if one is not None}
        folder = _working_directory(None if inside else cwd)

        def launch() -> Process:
            self._begin()
            namespaces = self._namespaces_of(view)
            with (
                _readable(stdin) as given,
                descendants_of_what_is_started(view.name if view else gethostname()) as descendants,
                self._inside(namespaces),
                entrance(inside, words, env, cwd, pass_fds, terminal=terminal) as way,
            ):
                source, output, errors = streams or (
                    given,
                    stdout_file if stdout is None else stdout.fileno(),
                    subprocess.PIPE if stderr is None else stderr.fileno(),
                )
                popen = subprocess.Popen(
                    way.words,
                    stdin=source,
                    stdout=output,
                    stderr=errors,
                    pass_fds=way.pass_fds,
                    env=way.env,
                    cwd=folder,
                    start_new_session=True,
                )
                way.check(popen, words)
            # Noted here, where nothing interrupts: whoever asked may be gone (Ctrl-C).
            process = Process(popen, words, descendants, stdout, stderr, self._collected)
            self._started[process] = None
            return process

        try:
            return namespace.call(launch)
        except OSError as error:
            raise _cannot_start(words, folder, error) from error
        except ValueError as error:  # a NUL in a word, or a variable that cannot be one
            raise CommandFailed(words, None, reason=f"not started: {error}") from None

    def _collected(self, process: Process) -> None:
        self._started.pop(process, None)

    def tidy(self) -> None:
        """Collect programs that have ended, and keep no more of what they wrote than the end.

        From any thread. One that is not collected keeps the first process of its pid namespace,
        that of a container, from ending (zap_pid_ns_processes in kernel/pid_namespace.c).
        """
        for process in list(self._started):
            process.popen.poll()
            process.trim_output()

    def kill(self) -> None:
        """Kill every program at once, without waiting for their ends; from any thread."""
        with self._lock:
            self._ended = True
            if self._guard_socket is not None:
                # Closing it would tell the guard nothing while a fork of this process has it.
                self._guard_socket.shutdown(socket.SHUT_RDWR)
                self._guard_socket.close()
                self._guard_socket = None
            for process in self._strangers:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            self._strangers.clear()

    def close(self) -> None:
        """End every program of the group and wait until the kernel has reaped them.

        Of what they wrote the end is still told.
        """
        self._thread.call(None, self._close)
        for output in list(self._outputs):
            output.close()

    def _close(self) -> None:
        self.kill()
        if self._guard is None:
            return
        # The first process of a pid namespace ends only when all others have been collected,
        # and those that we started are ours to collect.
        for process in list(self._started):
            process.wait()
            process.release()
        self._guard.communicate()
        self._guard = None
        for namespaces in self._of_nodes.values():
            _close(namespaces)
        _close(self._namespaces)
        os.close(self._host_mounts)


def _make_namespaces(view: NodeView) -> _Namespaces:
    """The pid and mount namespaces of a node, with its first process (node_init.py)."""
    texts = (view.hosts.encode(), _NO_RESOLVER.encode(), view.address_selection.encode())
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(node_init.__file__).resolve())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"".join(b"%d\n%b" % (len(text), text) for text in texts))
    process.stdin.flush()
    try:
        if process.stdout.read(1) == node_init.READY:
            return _Namespaces(
                _open(f"/proc/{process.pid}/ns/pid_for_children"),
                _open(f"/proc/{process.pid}/ns/mnt"),
            )
    finally:
        _, reason = process.communicate()
    raise PrivilegeError(
        f"Namespaces for programs in the node '{view.name}' could not be made: "
        f"{reason.decode(errors='replace').strip()}. "
        "It needs CAP_SYS_ADMIN; `testbed doctor` tells what this machine allows."
    )


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _close(namespaces: _Namespaces) -> None:
    os.close(namespaces.pids)
    if namespaces.mounts is not None:
        os.close(namespaces.mounts)


def _words(argv: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The words of a command, the first of them the path of a program."""
    words = _plain_words(argv)
    if "/" not in words[0]:
        words[0] = find_program(words[0])
    return words


def _plain_words(argv: Sequence[str | os.PathLike[str]]) -> list[str]:
    if isinstance(argv, str | bytes | os.PathLike):
        told = os.fsdecode(argv)
        raise LabError(
            f"A command is a list of words, not the text {told!r}. Write {told.split()!r}, or "
            f"{['sh', '-c', told]!r} for a shell."
        )
    words = [os.fspath(word) for word in argv]
    if not words:
        raise LabError("A command is a list of words, and this one is empty.")
    return words


def _working_directory(asked: str | os.PathLike[str] | None) -> str:
    """The folder asked for or this process's own; absolute: the starting thread has another."""
    try:
        return str(Path(asked or "").absolute())
    except FileNotFoundError:  # this process's own was removed
        return os.fspath(asked or "/")


@contextlib.contextmanager
def _readable(data: bytes | None) -> Iterator[int]:
    """A descriptor to read these bytes from; none are there where None."""
    if data is None:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield file.fileno()


def _cannot_start(words: Sequence[str], cwd: str, error: OSError) -> TestbedError:
    if not Path(cwd).is_dir():
        return CommandFailed(words, None, reason=f"its working directory {cwd} does not exist")
    if isinstance(error, FileNotFoundError):
        return MissingProgram(f"There is no program '{words[0]}'.")
    return CommandFailed(words, None, reason=f"not started: {os.strerror(error.errno or 0)}")
