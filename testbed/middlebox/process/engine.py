"""The middlebox process: carries packets between two TUN devices and answers the lab."""

from __future__ import annotations

import argparse
import gc
import os
import select
import signal
import time
from collections.abc import Sequence
from io import FileIO
from typing import Annotated, Any, Final

import msgspec

from testbed.errors import LabError
from testbed.kernel.processes.confine import drop_privileges, prefer_realtime, set_timer_slack
from testbed.kernel.processes.control import ControlServer
from testbed.middlebox.counters import FunctionState
from testbed.middlebox.process.outlets import Outlets
from testbed.middlebox.process.pipeline import Pipeline
from testbed.middlebox.registry import find, nearest
from testbed.middlebox.timers import Timers
from testbed.wire.packet import Side

_BATCH: Final = 64
_LONGEST_WAIT: Final = 3600.0
# A real-time process that never sleeps is throttled by the kernel for tens of milliseconds
# (sched(7)): after so long without a sleep this one takes a rest. All in seconds.
_LONGEST_STINT: Final = 0.005
_REST: Final = 0.0003
_NOTICEABLE: Final = 0.00002


class _FunctionAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    options: dict[str, Any] = {}


class _Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `start`; the descriptors of the outside and the inside TUN come with it.

    cpu: where to run under load; descriptors of a TUN for each side that is steered to the
    processors `receivers` come then, too. One more descriptor, if there is one, is of the
    directory for logs.
    """

    name: str
    functions: list[_FunctionAsked]
    mtu: int
    cpu: int | None = None
    receivers: list[int] = []
    outside: list[str] = []
    inside: list[str] = []


class _OfFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of operations on one function."""

    function: str
    options: dict[str, Any] = {}


class _Last(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `log`."""

    last: Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class Engine:
    """What the lab can ask for, and the loop. Methods raise `LabError` or `ValueError`."""

    def __init__(self) -> None:
        self._timers = Timers(time.monotonic)
        self._pipeline: Pipeline | None = None
        self._devices: tuple[FileIO, ...] = ()
        self._outlets = Outlets(())
        self._name = "middlebox"
        self._rested_at = time.monotonic()
        self.handlers = {
            "ready": self.ready,
            "start": self.start,
            "enable": self.enable,
            "disable": self.disable,
            "set": self.set,
            "counters": self.counters,
            "functions": self.functions,
            "log": self.log,
        }

    # Operations

    def ready(self, arguments: dict[str, Any], fds: list[int]) -> None:
        _refuse_descriptors("ready", fds)

    def start(self, arguments: dict[str, Any], fds: list[int]) -> list[Any]:
        """Begin to carry packets, without privileges from here on; the functions in force."""
        try:
            asked = msgspec.convert(arguments, _Start)
            if self._pipeline is not None:
                raise ValueError("it was started already")
            devices = 2 if asked.cpu is None else 4
            if len(fds) not in (devices, devices + 1):
                raise ValueError(
                    f"start takes {devices} or {devices + 1} descriptors, got {len(fds)}"
                )
            log_directory = fds[devices] if len(fds) > devices else None
            addresses = {Side.OUTSIDE: asked.outside, Side.INSIDE: asked.inside}
            outlets = Outlets(fds[:2], fds[2:devices], asked.cpu, asked.receivers)
            pipeline = Pipeline(outlets.send, self._timers, asked.mtu, addresses, log_directory)
            for function in asked.functions:
                pipeline.add(find(function.name), function.options)
        except (ValueError, LabError, OSError):
            _close(fds)
            raise
        for fd in fds[:devices]:
            os.set_blocking(fd, False)
        self._name = asked.name
        self._devices = tuple(FileIO(fd, "rb", closefd=False) for fd in fds[:2])
        self._pipeline = pipeline
        self._outlets = outlets
        prefer_realtime()
        drop_privileges()
        gc.freeze()
        names = ", ".join(pipeline.functions)
        pipeline.note("init", f"{asked.name} starts with {names}", important=True)
        for side, own in addresses.items():
            text = (
                f"{side.name.lower()} attached, mtu {asked.mtu}, {', '.join(own) or 'no address'}"
            )
            pipeline.note("interfaces", text)
        return self._states()

    def enable(self, arguments: dict[str, Any], fds: list[int]) -> None:
        self._switch(arguments, fds, True)

    def disable(self, arguments: dict[str, Any], fds: list[int]) -> None:
        self._switch(arguments, fds, False)

    def _switch(self, arguments: dict[str, Any], fds: list[int], enabled: bool) -> None:
        pipeline, asked = self._of_function(arguments, fds)
        pipeline.switch(asked.function, enabled)
        word = "enable" if enabled else "disable"
        pipeline.note("config", f"{word} {asked.function}", important=True)

    def set(self, arguments: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Change some options of one function; all its options as they are then."""
        pipeline, asked = self._of_function(arguments, fds)
        pipeline.set_options(asked.function, asked.options)
        pipeline.note("config", f"set {asked.function} {asked.options}", important=True)
        options: dict[str, Any] = msgspec.to_builtins(pipeline.functions[asked.function].options)
        return options

    def counters(self, arguments: dict[str, Any], fds: list[int]) -> Any:
        _refuse_descriptors("counters", fds)
        self._started().note("mib", "counters")
        return msgspec.to_builtins(self._started().counters())

    def functions(self, arguments: dict[str, Any], fds: list[int]) -> list[Any]:
        _refuse_descriptors("functions", fds)
        self._started().note("show", "functions")
        return self._states()

    def log(self, arguments: dict[str, Any], fds: list[int]) -> list[str]:
        """The newest lines of the function that keeps a log."""
        _refuse_descriptors("log", fds)
        pipeline, asked = self._started(), msgspec.convert(arguments, _Last)
        pipeline.note("show", f"log, last {asked.last}")
        for function in pipeline.functions.values():
            lines = function.log_lines(asked.last)
            if lines is not None:
                return lines
        raise ValueError(f"{self._name} keeps no log; give it the function 'trace-log'")

    def _states(self) -> list[Any]:
        return [
            msgspec.to_builtins(
                FunctionState(
                    name=name,
                    enabled=function.enabled,
                    options=msgspec.to_builtins(function.options),
                    counters=dict(function.counters) | function.gauges(),
                )
            )
            for name, function in self._started().functions.items()
        ]

    def _started(self) -> Pipeline:
        if self._pipeline is None:
            raise ValueError("it was not started yet")
        return self._pipeline

    def _of_function(
        self, arguments: dict[str, Any], fds: list[int]
    ) -> tuple[Pipeline, _OfFunction]:
        _refuse_descriptors("an operation on a function", fds)
        pipeline, asked = self._started(), msgspec.convert(arguments, _OfFunction)
        pipeline.note("command-queued", f"for {asked.function}")
        if asked.function not in pipeline.functions:
            raise ValueError(
                f"{self._name} has no function '{asked.function}'"
                f"{nearest(asked.function, pipeline.functions)}; "
                f"it has {', '.join(pipeline.functions) or 'none'}"
            )
        return pipeline, asked

    # The loop

    def run(self, server: ControlServer) -> None:
        """Carry packets and answer requests until the lab hangs up."""
        while True:
            readable = self._wait([server, *self._devices])
            if server in readable and not server.serve_one():
                return
            pipeline = self._pipeline
            if pipeline is None:
                continue
            for side, device in zip(Side, self._devices, strict=True):
                if device in readable:
                    taken = _drain(pipeline, side, device)
                    if taken == _BATCH:
                        self._outlets.loaded()
                    self._outlets.pace(taken, _BATCH)
            self._timers.fire()
            pipeline.send_waiting()

    def _wait(self, sources: list[Any]) -> list[Any]:
        """Sleep until something is readable or due; what is readable."""
        now = time.monotonic()
        if now - self._rested_at > _LONGEST_STINT:
            time.sleep(_REST)
            now = self._rested_at = time.monotonic()
        wait = self._timers.timeout()
        if wait is not None:
            wait = min(wait, _LONGEST_WAIT)
        readable, _, _ = select.select(sources, (), (), wait)
        woken = time.monotonic()
        if woken - now > _NOTICEABLE:
            self._rested_at = woken
        self._outlets.slept(woken - now)
        return readable


def _drain(pipeline: Pipeline, side: Side, device: FileIO) -> int:
    """Take what a TUN device has, but no more than a batch: the other side wants its turn.

    How many packets it had.
    """
    buffer, read = pipeline.buffer, device.readinto
    for taken in range(_BATCH):
        length = read(buffer)
        if length is None:
            return taken
        pipeline.receive(side, buffer, length)
    return _BATCH


def _refuse_descriptors(operation: str, fds: list[int]) -> None:
    if fds:
        _close(fds)
        raise ValueError(f"{operation} takes no descriptors, got {len(fds)}")


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve on the descriptor given by `--control` until the lab hangs up."""
    parser = argparse.ArgumentParser(prog="python -m testbed.middlebox", description=__doc__)
    parser.add_argument("--control", type=int, required=True, metavar="FD")
    control = parser.parse_args(argv).control
    # Ctrl-C reaches every process of the terminal; it is the lab that decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_timer_slack()
    engine = Engine()
    engine.run(ControlServer(control, engine.handlers))
