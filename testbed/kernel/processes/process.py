"""A program that runs inside a lab, and waiting for it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import IO

from testbed.errors import CommandFailed, MissingProgram
from testbed.kernel.processes.descendants import Descendants
from testbed.kernel.processes.output import MOST_KEPT, OutputFile
from testbed.kernel.processes.owner import Owner

_SAID_LAST = 16 << 10
_KILL_SECONDS = 10.0


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
    """A program running in a node. Usable from any thread of the process that made the lab.

    It leads a session of its own. What it starts ends with it by `kill` and `stop`, wherever that
    has gone. What it writes is kept in unnamed files, so that it can never fill a pipe and block;
    of more than 64 MiB the end is kept.

    on_end: told once its end is known.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        argv: Sequence[str],
        descendants: Descendants,
        stdout: OutputFile | None,
        stderr: OutputFile | None,
        on_end: Callable[[Process], object],
    ) -> None:
        self.popen = popen
        self.argv = tuple(argv)
        self._descendants = descendants
        self._stdout = stdout
        self._stderr = stderr
        self._on_end = on_end
        self._owner = Owner()

    def __repr__(self) -> str:
        state = "running" if self.running else f"status {self.popen.returncode}"
        return f"<Process {' '.join(self.argv)} pid={self.pid} {state}>"

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def running(self) -> bool:
        return self._owner.is_here and self.popen.poll() is None

    @property
    def stderr(self) -> IO[bytes]:
        """The read end of its standard error; only with `stderr_pipe=True`."""
        if self.popen.stderr is None:
            raise ValueError(f"{self.argv[0]} was started without a pipe for its errors")
        return self.popen.stderr

    def stdout_text(self) -> str:
        """What it has written to its standard output up to now, the last 64 MiB at most."""
        return "" if self._stdout is None else self._stdout.text()

    def stderr_text(self) -> str:
        """What it has written to its standard error up to now, the last 64 MiB at most."""
        return "" if self._stderr is None else self._stderr.text()

    def said_last(self) -> str:
        """The last 16 KiB of its standard error, for messages."""
        return "" if self._stderr is None else self._stderr.text(_SAID_LAST)

    def trim_output(self) -> None:
        """Keep no more of its output than the end."""
        for output in (self._stdout, self._stderr):
            if output is not None:
                output.trim()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the status; raises `CommandFailed` after `timeout` s."""
        self._owner.check()
        if timeout is not None and not self.ended_within(timeout):
            raise CommandFailed(
                self.argv, None, "", self.said_last(), f"still running after {timeout:g} s"
            )
        status = self.popen.wait()
        self.trim_output()
        self._on_end(self)
        return status

    def ended_within(self, timeout: float) -> bool:
        """Whether it ends within `timeout` seconds."""
        self._owner.check()
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

    def descriptor(self) -> int:
        """A new descriptor of it (pidfd_open(2)), which is readable once it has ended.

        Raises `ProcessLookupError` when that is known already.
        """
        return os.pidfd_open(self.pid)

    def ending(self) -> str:
        """How it ended, in words; waits for that."""
        status = self.wait()
        return f"was killed by signal {-status}" if status < 0 else f"ended, status {status}"

    def output(self) -> tuple[bytes, bytes]:
        """What it has written: standard output, standard error."""
        stdout, stderr = (
            b"" if one is None else one.read() for one in (self._stdout, self._stderr)
        )
        return stdout, stderr

    def finish(self, timeout: float | None = None) -> None:
        """Wait for its end, of which `output` tells then.

        Raises `CommandFailed` for a status other than 0, for output longer than 64 MiB, and
        after killing it at `timeout` s.
        """
        late = timeout is not None and not self.ended_within(timeout)
        if late:
            self.kill()
        status = self.wait()
        self.release()
        lost = any(one is not None and one.lost for one in (self._stdout, self._stderr))
        reason = ""
        if late:
            reason = f"killed: still running after {timeout:g} s"
        elif lost:
            reason = f"wrote more than {MOST_KEPT >> 20} MiB; have it write to a file of its own"
        if reason or status != 0:
            raise CommandFailed(
                self.argv, None if late else status, self.stdout_text(), self.stderr_text(), reason
            )

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens when it has ended already."""
        self._owner.check()
        self.popen.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to its process group, as its terminal would; see `signal`."""
        self._owner.check()
        if self.popen.poll() is None:
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """Kill it and all that it has started, also where it has ended itself already."""
        self._owner.check()
        if self._descendants.end(signal.SIGKILL, _KILL_SECONDS):
            self.wait()

    def stop(self, timeout: float = 2.0) -> int:
        """End it and all that it has started (SIGTERM, after `timeout` s SIGKILL).

        Returns its status.
        """
        self._owner.check()
        if not self._descendants.end(signal.SIGTERM, timeout):
            self.kill()
        status = self.wait()
        self.release()
        return status

    def release(self) -> None:
        """Close its pipes; what it wrote can still be read."""
        for stream in (self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()


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
