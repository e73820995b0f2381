"""Captures: tcpdump on an interface, complete or an error."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from testbed.errors import CaptureError, LabError
from testbed.kernel.files import claim
from testbed.kernel.namespace import Namespace
from testbed.kernel.processes import ungrouped
from testbed.kernel.processes.group import ProcessGroup
from testbed.kernel.processes.process import (
    Process,
    await_readable,
    deadline_in,
    find_program,
    time_left,
)
from testbed.topology.model import CapturePoint, Endpoint
from testbed.topology.names import unknown_node
from testbed.topology.planning.plan_model import Plan
from testbed.wording import join

_READY_SECONDS = 15.0
_FLUSH_SECONDS = 10.0
#: Or as many KiB as a packet may have bytes, where that is more: room for 1024 of the longest.
_BUFFER_KIB = 32768
_ETHERNET_OVERHEAD = 14 + 2 * 4  # the header and two VLAN tags
_LONGEST_SEGMENT = 65535  # bytes of an IP packet: segments before they are cut up
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
    opened by `path` as long as the lab is there and vanishes with it. longest: what is longer than
    so many bytes is cut off; the buffer has room for the fewer packets the longer they may be.
    file: to write to instead; live: each packet is written as it comes, for whoever reads along.
    """

    def __init__(
        self,
        node: str,
        interface: str,
        longest: int,
        *,
        directory: Path | None = None,
        before_stop: Callable[[Process], None] = lambda _: None,
        file: IO[bytes] | None = None,
        live: bool = False,
    ) -> None:
        self._before_stop = before_stop
        self._longest = longest
        self.node = node
        self.interface = interface
        self.counts: CaptureCounts | None = None
        self._lock = threading.Lock()
        self._started = False
        self._process: Process | None = None
        self._output = b""
        self._file = file
        self._live = live
        if directory is None:
            if self._file is None:
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

    @property
    def process(self) -> Process | None:
        """tcpdump, while it runs."""
        return self._process

    def start(self, group: ProcessGroup, namespace: Namespace) -> Process:
        """Start tcpdump; `await_ready` tells when it captures."""
        argv = [
            find_program("tcpdump", "tcpdump"),
            "-i",
            self.interface,
            "-n",
            "-p",
            "-s",
            str(self._longest),
        ]
        argv += ["-B", str(max(_BUFFER_KIB, self._longest))]
        argv += ["--immediate-mode", "--time-stamp-precision=nano"]
        argv += ["-Z", "root"]  # stay who we are: the file may be writable for us alone
        argv += ["-U"] if self._live else []
        if self._file is None:
            self._file = self._create()
        self._process = group.start(
            namespace,
            ungrouped.command([*argv, "-w", "-"]),
            stdout_file=self._file,
            stderr_pipe=True,
        )
        self._started = True
        return self._process

    def _create(self) -> IO[bytes]:
        """The file, empty and for this capture alone as long as it is open."""
        try:
            file = self.path.open("ab")
        except OSError as error:
            raise CaptureError(
                f"The capture of {self.node}:{self.interface} cannot be written to "
                f"{self.path}: {os.strerror(error.errno or 0)}."
            ) from error
        if not claim(file.fileno()):
            file.close()
            raise CaptureError(
                f"Another lab writes to {self.path} at this moment. Give each lab a directory of "
                "its own for captures."
            )
        file.truncate(0)
        return file

    def flush(self) -> Path:
        """Have every packet up to now in the file, while the capture goes on; returns its path.

        Raises `CaptureError` when tcpdump has ended early.
        """
        with self._lock:
            if self._process is not None:
                deadline = deadline_in(_FLUSH_SECONDS)
                self._await_all_seen(self._process, deadline)
                self._process.signal(signal.SIGUSR2)  # tcpdump(8): flush the packet buffer
                self._ask_counts(self._process, deadline)  # answered after that
            return self.path

    def await_ready(self) -> None:
        """Return when every packet from now on will be captured. Raises `CaptureError`."""
        assert self._process is not None
        deadline = deadline_in(_READY_SECONDS)
        while b"listening on" not in self._output:
            self._read_more(self._process, deadline, "did not get ready")

    def stop(self) -> CaptureCounts:
        """Finish the file and check that it holds every packet up to this call.

        Raises `CaptureError` when packets were dropped for want of buffer space, or when tcpdump
        ended early.
        """
        with self._lock:
            if self._process is not None:
                try:
                    self.counts = self._finish(self._process)
                finally:
                    self._before_stop(self._process)
                    self._process.kill()
                    self._process.release()
                    self._process = None
            if self.counts is None:
                raise CaptureError(
                    f"The capture of {self.node}:{self.interface} "
                    f"{'failed' if self._started else 'never ran'}."
                )
            return self.counts

    def _finish(self, process: Process) -> CaptureCounts:
        # What tcpdump has seen but not yet written would be lost by stopping it right away.
        seen = self._await_all_seen(process, deadline_in(_FLUSH_SECONDS))
        self._before_stop(process)
        process.signal(signal.SIGINT)
        if not process.ended_within(_FLUSH_SECONDS):
            raise self._failure("did not end")
        self._output += process.stderr.read()
        last = _last_counts(self._output)
        if last is None:
            raise self._failure("ended without telling what it captured")
        if last.dropped or last.captured < seen:
            raise CaptureError(
                f"The capture of {self.node}:{self.interface} is not complete: of "
                f"{last.received} packets {last.captured} were written and "
                f"{last.dropped} dropped. Capture fewer interfaces, a slower link, or less of each "
                f"frame: `captures: [{{interface: {self.node}:{self.interface}, snap: 128}}]`."
            )
        return last

    def _await_all_seen(self, process: Process, deadline: float) -> int:
        """How many packets it has seen, once it has written as many."""
        counts = self._ask_counts(process, deadline)
        seen = counts.received
        while counts.captured < seen - counts.dropped:
            counts = self._ask_counts(process, deadline)
        return seen

    def abandon(self) -> None:
        """End it, whatever it has captured, and give the file up."""
        if self._process is not None:
            self._process.kill()
            self._process.release()
            self._process = None
        self.close()

    def close(self) -> None:
        """Give the file up; an unnamed one is gone with it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _ask_counts(self, process: Process, deadline: float) -> CaptureCounts:
        self._output = b""
        process.signal(signal.SIGUSR1)
        while (counts := _last_counts(self._output)) is None:
            self._read_more(process, deadline, "did not answer")
        return counts

    def _read_more(self, process: Process, deadline: float, complaint: str) -> None:
        pipe = process.stderr
        readable = await_readable(pipe.fileno(), time_left(deadline))
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


def bytes_to_keep(plan: Plan, end: Endpoint) -> int:
    """How much of a frame a capture of the topology keeps: all, unless it says less."""
    longest = longest_frame(plan, end)
    snap = end.snap if isinstance(end, CapturePoint) else None
    return longest if snap is None else min(snap, longest)


def longest_frame(plan: Plan, end: Endpoint) -> int:
    """The most bytes of a frame seen at an interface. Raises `LabError` where it is not there."""
    node = plan.nodes.get(end.node)
    if node is None:
        raise LabError(f"No capture: {unknown_node(end.node, plan.nodes)}.")
    known = {one.name: one for one in node.interfaces}
    if end.interface not in known:
        raise LabError(
            f"No capture: the node '{end.node}' has no interface '{end.interface}', but "
            f"{join(known, 'and') or 'none'}."
        )
    planned = known[end.interface]
    return (_LONGEST_SEGMENT if planned.offload else planned.mtu) + _ETHERNET_OVERHEAD


def _last_counts(text: bytes) -> CaptureCounts | None:
    found = _COUNTS.findall(text)
    return CaptureCounts(*(int(number) for number in found[-1])) if found else None
