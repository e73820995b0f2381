"""Captures: tcpdump on an interface, complete or an error."""

from __future__ import annotations

import os
import re
import select
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from testbed.errors import CaptureError
from testbed.kernel.namespace import Namespace
from testbed.kernel.process import Process, ProcessGroup, deadline_in, find_program, time_left
from testbed.topology.plan_model import PlannedInterface

_READY_SECONDS = 15.0
_FLUSH_SECONDS = 10.0
_BUFFER_KIB = 32768
_LINK_HEADER = 64
_OFFLOADED = 262144
_COUNTS = re.compile(
    rb"(\d+) packets? captured\D+(\d+) packets? received by filter\D+(\d+) packets? dropped"
)


class CaptureCounts(msgspec.Struct, frozen=True):
    """tcpdump's own accounts: written to the file, seen, and lost for want of room."""

    captured: int
    received: int
    dropped: int


class Capture:
    """A running or finished capture of one interface; nanosecond time stamps.

    `path` is the pcap. Without a directory to go to it is a file without a name, which can be
    opened by `path` as long as the lab is there and vanishes with it.
    """

    def __init__(
        self,
        interface: PlannedInterface,
        directory: Path | None,
        before_stop: Callable[[Process], None],
    ) -> None:
        self._before_stop = before_stop
        self.node = interface.node
        self.interface = interface.name
        # The kernel reserves this much for every packet that waits to be written.
        self._snapshot = _OFFLOADED if interface.offload else interface.mtu + _LINK_HEADER
        self.counts: CaptureCounts | None = None
        self._process: Process | None = None
        self._output = b""
        self._file: IO[bytes] | None = None
        if directory is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
            self.path = Path(f"/proc/{os.getpid()}/fd/{self._file.fileno()}")
        else:
            self.path = directory / f"{self.node}-{self.interface}.pcap"

    def __repr__(self) -> str:
        state = "running" if self.running else "finished"
        return f"<Capture {self.node}:{self.interface} {state} {self.path}>"

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self, group: ProcessGroup, namespace: Namespace) -> Process:
        """Start tcpdump; `await_ready` tells when it captures."""
        argv = [
            find_program("tcpdump"),
            "-i",
            self.interface,
            "-n",
            "-p",
            "-s",
            str(self._snapshot),
        ]
        argv += ["-B", str(_BUFFER_KIB), "--immediate-mode", "--time-stamp-precision=nano"]
        argv += ["-Z", "root"]  # stay who we are: the file may be writable for us alone
        if self._file is None:
            self._file = self.path.open("wb")
        self._process = group.start(
            namespace, [*argv, "-w", "-"], stdout_file=self._file, stderr_pipe=True
        )
        return self._process

    def await_ready(self) -> None:
        """Return when every packet from now on will be captured. Raises `CaptureError`."""
        deadline = deadline_in(_READY_SECONDS)
        while b"listening on" not in self._output:
            self._read_more(deadline, "did not get ready")

    def stop(self) -> CaptureCounts:
        """Finish the file and check that nothing is missing from it.

        Raises `CaptureError` when packets were dropped for want of buffer space, or when tcpdump
        ended early.
        """
        if self._process is None:
            if self.counts is None:
                raise CaptureError(f"The capture of {self.node}:{self.interface} never ran.")
            return self.counts
        # What tcpdump has seen but not yet written would be lost by stopping it right away.
        deadline = deadline_in(_FLUSH_SECONDS)
        while (counts := self._ask_counts(deadline)).captured < counts.received - counts.dropped:
            pass
        process, self._process = self._process, None
        self._before_stop(process)
        process.signal(signal.SIGINT)
        process.wait(_FLUSH_SECONDS)
        self._output += process.stderr.read()
        self.counts = _last_counts(self._output)
        if self.counts is None:
            raise self._failure("ended without telling what it captured")
        if self.counts.dropped or self.counts.captured != self.counts.received:
            raise CaptureError(
                f"The capture of {self.node}:{self.interface} is not complete: of "
                f"{self.counts.received} packets {self.counts.captured} were written and "
                f"{self.counts.dropped} dropped. Capture fewer interfaces or a slower link."
            )
        return self.counts

    def close(self) -> None:
        """Give the file up; an unnamed one is gone with it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _ask_counts(self, deadline: float) -> CaptureCounts:
        assert self._process is not None
        self._output = b""
        self._process.signal(signal.SIGUSR1)
        while (counts := _last_counts(self._output)) is None:
            self._read_more(deadline, "did not answer")
        return counts

    def _read_more(self, deadline: float, complaint: str) -> None:
        assert self._process is not None
        pipe = self._process.stderr
        readable, _, _ = select.select([pipe], [], [], time_left(deadline))
        more = os.read(pipe.fileno(), 65536) if readable else b""
        if not more:
            raise self._failure(complaint if not readable else "ended early")
        self._output += more

    def _failure(self, complaint: str) -> CaptureError:
        words = self._output.decode(errors="replace").strip()
        return CaptureError(
            f"The capture of {self.node}:{self.interface} failed: tcpdump {complaint}"
            f"{f', saying: {words}' if words else ''}."
        )


def _last_counts(text: bytes) -> CaptureCounts | None:
    found = _COUNTS.findall(text)
    return CaptureCounts(*(int(number) for number in found[-1])) if found else None
