"""Programs that run inside a lab, and never outlive it.

All of them live in one pid namespace whose first process (guard.py) waits on a socket from us.
When this process ends, whatever ends it, the socket closes, that first process ends, and the
kernel kills everything else in the pid namespace (pid_namespaces(7)).
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from testbed.errors import (
    CommandFailed,
    LabError,
    MissingProgram,
    PrivilegeError,
    TestbedError,
)
from testbed.kernel.namespace import Namespace, NamespaceThread
from testbed.kernel.processes import guard
from testbed.kernel.syscalls import CLONE_NEWPID, setns

_KEPT_OUTPUT = 16 << 10


def find_program(name: str, package: str | None = None) -> str:
    """The path of a program, looked up also where unprivileged users' PATH does not lead.

    Raises `MissingProgram`, naming the Debian package where it is known.
    """
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        cure = f"Install it: apt-get install {package}" if package else f"It is not in {path}."
        raise MissingProgram(f"The program '{name}' was not found. {cure}")
    return found


class Process:
    """A program running in a node; a thin face over `subprocess.Popen`. Usable from any thread.

    It leads a session of its own, and what it starts ends with it by `kill` and `stop`. Its
    standard error is kept in an unnamed file, so that it can never fill a pipe and block.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        argv: Sequence[str],
        stdout: IO[bytes] | None,
        stderr: IO[bytes] | None,
    ) -> None:
        self.popen = popen
        self.argv = tuple(argv)
        self._stdout = stdout
        self._stderr = stderr

    def __repr__(self) -> str:
        state = "running" if self.running else f"status {self.popen.returncode}"
        return f"<Process {' '.join(self.argv)} pid={self.pid} {state}>"

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    @property
    def stdout(self) -> IO[bytes]:
        """The read end of its standard output; only with `stdout=True`."""
        if self.popen.stdout is None:
            raise ValueError(f"{self.argv[0]} was started without a pipe for its output")
        return self.popen.stdout

    @property
    def stderr(self) -> IO[bytes]:
        """The read end of its standard error; only with `stderr_pipe=True`."""
        if self.popen.stderr is None:
            raise ValueError(f"{self.argv[0]} was started without a pipe for its errors")
        return self.popen.stderr

    def stderr_text(self) -> str:
        """The last 16 KiB that it wrote to its standard error, unless that goes to a pipe."""
        return _tail(self._stderr, _KEPT_OUTPUT)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the status; raises `CommandFailed` after `timeout` s."""
        if timeout is not None and not self.ended_within(timeout):
            raise CommandFailed(
                self.argv, None, "", self.stderr_text(), f"still running after {timeout:g} s"
            )
        return self.popen.wait()

    def ended_within(self, timeout: float) -> bool:
        """Whether it ends within `timeout` seconds."""
        if self.popen.poll() is not None:
            return True
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:  # another thread has collected it just now
            return True
        try:
            return await_readable(pidfd, timeout)
        finally:
            os.close(pidfd)

    def finish(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end and return what it wrote: standard output, standard error.

        For programs started with `keep_output`. Raises `CommandFailed` for a status other than
        0, and after killing it at `timeout` s.
        """
        late = timeout is not None and not self.ended_within(timeout)
        if late:
            self.kill()
        status = self.popen.wait()
        out, said = _tail(self._stdout), _tail(self._stderr)
        self.release()
        if late:
            raise CommandFailed(
                self.argv, None, out, said, f"killed: still running after {timeout:g} s"
            )
        if status != 0:
            raise CommandFailed(self.argv, status, out, said)
        return out, said

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens when it has ended already."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        """Kill it and all that it has started, except what left its session."""
        self._signal_all(signal.SIGKILL)

    def _signal_all(self, number: int) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def stop(self, timeout: float = 2.0) -> int:
        """End it (SIGTERM, after `timeout` s SIGKILL), collect it and return its status."""
        self._signal_all(signal.SIGTERM)
        if not self.ended_within(timeout):
            self.kill()
        status = self.popen.wait()
        self.release()
        return status

    def release(self) -> None:
        """Close the pipes and the files of its output."""
        for stream in (self.popen.stdout, self.popen.stderr, self._stdout, self._stderr):
            if stream is not None:
                stream.close()


def _tail(stream: IO[bytes] | None, most: int | None = None) -> str:
    """The end of a file that another process writes to; nothing when it is closed."""
    if stream is None or stream.closed:
        return ""
    size = os.fstat(stream.fileno()).st_size
    start = 0 if most is None else max(0, size - most)
    return os.pread(stream.fileno(), size - start, start).decode(errors="replace")


class ProcessGroup:
    """Starts programs in namespaces; all end with `close`, or with this process."""

    def __init__(self, thread: NamespaceThread) -> None:
        self._thread = thread
        self._lock = threading.Lock()
        self._guard: subprocess.Popen[bytes] | None = None
        self._guard_socket: socket.socket | None = None  # the guard ends when it is let off
        self._ended = False
        self._started: list[Process] = []

    def _place_children(self) -> None:
        """Have the namespace thread's children born into the guard's pid namespace."""
        ours, theirs = socket.socketpair()
        python = [sys.executable, "-I", "-S", str(Path(guard.__file__).resolve())]
        with theirs:
            process = subprocess.Popen(
                [find_program("unshare", "util-linux"), "--pid", "--fork", *python],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
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
        fd = os.open(f"/proc/{process.pid}/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(fd, CLONE_NEWPID)
        finally:
            os.close(fd)

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
        stdout: bool = False,
        keep_output: bool = False,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        stdout_file: IO[Any] | None = None,
        stderr_pipe: bool = False,
    ) -> Process:
        """Start a program inside the namespace.

        Its output goes to a pipe (`stdout`), to a file for `Process.finish` (`keep_output`), to a
        file of the caller's (`stdout_file`) or nowhere. It gets a session of its own, so that a
        Ctrl-C at the terminal reaches only this process, which then ends the program in order.

        Raises `MissingProgram`, and `CommandFailed` for a program that cannot be executed.
        """
        words = [os.fspath(word) for word in argv]
        if "/" not in words[0]:
            words[0] = find_program(words[0])
        with contextlib.ExitStack() as made:
            kept = made.enter_context(tempfile.TemporaryFile()) if keep_output else None
            errors = None if stderr_pipe else made.enter_context(tempfile.TemporaryFile())

            def launch() -> Process:
                if self._ended:
                    raise LabError("The lab has been taken down and starts no more programs.")
                if self._guard is None:
                    self._place_children()
                popen = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=kept
                    or stdout_file
                    or (subprocess.PIPE if stdout else subprocess.DEVNULL),
                    stderr=subprocess.PIPE if errors is None else errors,
                    pass_fds=pass_fds,
                    env=env,
                    cwd=cwd,
                    start_new_session=True,
                )
                # Noted here, where nothing interrupts: whoever asked may be gone (Ctrl-C).
                process = Process(popen, words, kept, errors)
                self._started = [one for one in self._started if one.popen.returncode is None]
                self._started.append(process)
                made.pop_all()  # its `release` closes them from now on
                return process

            try:
                return namespace.call(launch)
            except OSError as error:
                raise _cannot_start(words, cwd, error) from error

    def kill(self) -> None:
        """Kill every program at once, without waiting for their ends; from any thread."""
        with self._lock:
            self._ended = True
            if self._guard_socket is not None:
                self._guard_socket.close()
                self._guard_socket = None

    def close(self) -> None:
        """End every program of the group and wait until the kernel has reaped them."""
        self._thread.call(None, self._close)

    def _close(self) -> None:
        self.kill()
        if self._guard is None:
            return
        # The first process of a pid namespace ends only when all others have been collected,
        # and those that we started are ours to collect.
        for process in self._started:
            process.popen.wait()
            process.release()
        self._guard.communicate()
        self._guard = None
        self._started.clear()


def _cannot_start(
    words: Sequence[str], cwd: str | os.PathLike[str] | None, error: OSError
) -> TestbedError:
    if cwd is not None and not Path(cwd).is_dir():
        return CommandFailed(words, None, reason=f"its working directory {cwd} does not exist")
    if isinstance(error, FileNotFoundError):
        return MissingProgram(f"There is no program '{words[0]}'.")
    return CommandFailed(words, None, reason=f"not started: {os.strerror(error.errno or 0)}")


def await_readable(fd: int, timeout: float) -> bool:
    """Whether a descriptor becomes readable, or its other end is closed, within `timeout` s.

    Unlike `select.select` it takes any descriptor, however great its number.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout) * 1000))


def deadline_in(seconds: float) -> float:
    """A point of the monotonic clock, for loops that wait for events."""
    return time.monotonic() + seconds


def time_left(deadline: float) -> float:
    """Seconds until the deadline, 0 when it has passed."""
    return max(0.0, deadline - time.monotonic())
