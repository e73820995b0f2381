"""Programs that run inside a lab, and never outlive it.

All of them live in one pid namespace whose first process waits on a pipe from us. When this
process ends, whatever ends it, the pipe closes, that first process ends, and the kernel kills
everything else in the pid namespace (pid_namespaces(7)).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from testbed.errors import CommandFailed, MissingProgram, PrivilegeError
from testbed.kernel.namespace import Namespace, NamespaceThread
from testbed.kernel.syscalls import CLONE_NEWPID, setns

_KEPT_OUTPUT = 16 << 10


def find_program(name: str, package: str | None = None) -> str:
    """The path of a program, looked up also where unprivileged users' PATH does not lead.

    Raises `MissingProgram` naming the Debian package.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise MissingProgram(
            f"The program '{name}' is not installed. Install it: apt-get install {package or name}"
        )
    return found


class Process:
    """A program running in a node; a thin face over `subprocess.Popen`.

    Its standard error is kept in an unnamed file, so that it can never fill a pipe and block.
    """

    def __init__(
        self, popen: subprocess.Popen[bytes], argv: Sequence[str], stderr: IO[bytes] | None
    ) -> None:
        self.popen = popen
        self.argv = tuple(argv)
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
        if self._stderr is None or self._stderr.closed:
            return ""
        size = os.fstat(self._stderr.fileno()).st_size
        start = max(0, size - _KEPT_OUTPUT)
        return os.pread(self._stderr.fileno(), _KEPT_OUTPUT, start).decode(errors="replace")

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the status; raises `CommandFailed` after `timeout` s."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise CommandFailed(
                self.argv, None, "", self.stderr_text(), f"still running after {timeout:g} s"
            ) from None

    def ended_within(self, timeout: float) -> bool:
        """Whether it ends within `timeout` seconds."""
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def finish(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end and return what it wrote: standard output, standard error.

        Raises `CommandFailed` for a status other than 0, and after killing it at `timeout` s.
        """
        late = None
        try:
            out, _ = self.popen.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            out, _ = self.popen.communicate()
            late = f"killed: still running after {timeout:g} s"
        text = (out or b"").decode(errors="replace")
        said = self.stderr_text()
        self.release()
        if late is not None:
            raise CommandFailed(self.argv, None, text, said, late)
        if self.popen.returncode != 0:
            raise CommandFailed(self.argv, self.popen.returncode, text, said)
        return text, said

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens when it has ended already."""
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.popen.kill()

    def stop(self, timeout: float = 2.0) -> int:
        """End it (SIGTERM, after `timeout` s SIGKILL), collect it and return its status."""
        if self.running:
            self.popen.terminate()
        try:
            status = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            status = self.popen.wait()
        self.release()
        return status

    def release(self) -> None:
        """Close the pipes and the file of its output."""
        for stream in (self.popen.stdout, self.popen.stderr, self._stderr):
            if stream is not None:
                stream.close()


class ProcessGroup:
    """Starts programs in namespaces; all end with `close`, or with this process."""

    def __init__(self, thread: NamespaceThread) -> None:
        self._thread = thread
        self._guard: subprocess.Popen[bytes] | None = None
        self._started: list[Process] = []

    def _place_children(self) -> None:
        """Have the namespace thread's children born into the guard's pid namespace."""
        # `cat` ends at the end of its input, which is ours to give or, in death, the kernel's.
        guard = subprocess.Popen(
            [find_program("unshare", "util-linux"), "--pid", "--fork", find_program("cat")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert guard.stdin is not None and guard.stdout is not None and guard.stderr is not None
        guard.stdin.write(b".")
        guard.stdin.flush()
        if guard.stdout.read(1) != b".":  # its echo says that the namespace is there
            reason = guard.stderr.read().decode(errors="replace").strip()
            guard.wait()
            raise PrivilegeError(
                f"A pid namespace for the lab's programs could not be made: {reason}. "
                "It needs CAP_SYS_ADMIN; `testbed doctor` tells what this machine allows."
            )
        self._guard = guard
        fd = os.open(f"/proc/{guard.pid}/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(fd, CLONE_NEWPID)
        finally:
            os.close(fd)

    def start(
        self,
        namespace: Namespace,
        argv: Sequence[str | os.PathLike[str]],
        *,
        stdout: bool = False,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        stdout_file: IO[Any] | None = None,
        stderr_pipe: bool = False,
    ) -> Process:
        """Start a program inside the namespace; `stdout=True` gives its output as a pipe.

        It gets a session of its own, so that a Ctrl-C at the terminal reaches only this process,
        which then ends the program in order. Raises `MissingProgram`.
        """
        words = [os.fspath(word) for word in argv]
        if "/" not in words[0]:
            words[0] = find_program(words[0])
        # Closed by Process.release.
        kept = None if stderr_pipe else tempfile.TemporaryFile()  # noqa: SIM115

        def launch() -> subprocess.Popen[bytes]:
            if self._guard is None:
                self._place_children()
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=stdout_file or (subprocess.PIPE if stdout else subprocess.DEVNULL),
                stderr=subprocess.PIPE if kept is None else kept,
                pass_fds=pass_fds,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )

        try:
            popen = namespace.call(launch)
        except BaseException as error:
            if kept is not None:
                kept.close()
            if isinstance(error, FileNotFoundError):
                raise MissingProgram(f"There is no program '{words[0]}'.") from None
            raise
        process = Process(popen, words, kept)
        self._started = [one for one in self._started if one.popen.returncode is None]
        self._started.append(process)
        return process

    def close(self) -> None:
        """End every program of the group at once and wait until the kernel has reaped them."""
        if self._guard is None:
            return
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.stdin = None
        # The first process of a pid namespace ends only when all others have been collected,
        # and those that we started are ours to collect.
        for process in self._started:
            process.popen.wait()
            process.release()
        self._guard.communicate()
        self._guard = None
        self._started.clear()


def deadline_in(seconds: float) -> float:
    """A point of the monotonic clock, for loops that wait for events."""
    return time.monotonic() + seconds


def time_left(deadline: float) -> float:
    """Seconds until the deadline, 0 when it has passed."""
    return max(0.0, deadline - time.monotonic())
