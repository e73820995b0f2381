"""The middlebox process: carries packets between two TUN devices and answers the lab."""

from __future__ import annotations

import gc
import os
import time
from io import FileIO
from typing import Any, Final

import msgspec

from testbed.kernel.clock import waits_are_exact
from testbed.kernel.load_sharing import LoadSharing
from testbed.kernel.processes.confine import drop_privileges, prefer_realtime, set_timer_slack
from testbed.kernel.processes.control import (
    ControlServer,
    Handler,
    Message,
    control_descriptor,
)
from testbed.kernel.realtime import RealtimeLoop
from testbed.middlebox import messages
from testbed.middlebox.counters import BoxCounters, FunctionState
from testbed.middlebox.process.output import Output
from testbed.middlebox.process.pipeline import Pipeline
from testbed.middlebox.registry import find
from testbed.middlebox.timers import Timers
from testbed.wire.packet import Side
from testbed.wording import suggestion

_BATCH: Final = 64


class Engine:
    """What the lab can ask for, and the loop. Methods raise `LabError` or `ValueError`."""

    def __init__(self) -> None:
        self._timers = Timers(time.monotonic)
        self._pipeline: Pipeline | None = None
        self._devices: dict[Side, FileIO] = {}
        self._load = LoadSharing()
        self._loop = RealtimeLoop(self._load)
        self._output = Output(())
        self._name = "middlebox"
        self.handlers: dict[type[Message], Handler] = {
            messages.Start: self.start,
            messages.SetEnabled: self.switch,
            messages.SetOptions: self.set,
            messages.CountBox: self.counters,
            messages.Functions: self.functions,
            messages.Log: self.log,
        }

    # Operations

    def start(self, asked: messages.Start) -> list[FunctionState]:
        """Begin to carry packets, without privileges from here on; the functions in force."""
        if self._pipeline is not None:
            raise ValueError("it was started already")
        sides = {Side.OUTSIDE: asked.outside, Side.INSIDE: asked.inside}
        direct = [side.tun.fileno() for side in sides.values()]
        steered = [one.steered.fileno() for one in sides.values() if one.steered is not None]
        if asked.placement is not None:
            self._load.begin(asked.placement)
        output = Output(direct, steered, self._load)
        logs = None if asked.log_directory is None else asked.log_directory.fileno()
        addresses = {side: list(one.addresses) for side, one in sides.items()}
        pipeline = Pipeline(output.send, self._timers, asked.mtu, addresses, logs)
        for function in asked.functions:
            pipeline.add(find(function.name), function.options)
        for fd in [*direct, *steered]:
            os.set_blocking(fd, False)
        self._name = asked.name
        self._devices = {
            side: FileIO(fd, "rb", closefd=False) for side, fd in zip(sides, direct, strict=True)
        }
        for fd in direct:
            self._loop.register(fd)
        self._pipeline = pipeline
        self._output = output
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

    def switch(self, asked: messages.SetEnabled) -> None:
        pipeline = self._having(asked.function)
        pipeline.switch(asked.function, asked.enabled)
        word = "enable" if asked.enabled else "disable"
        pipeline.note("config", f"{word} {asked.function}", important=True)

    def set(self, asked: messages.SetOptions) -> dict[str, Any]:
        """Change some options of one function; all its options as they are then."""
        pipeline = self._having(asked.function)
        pipeline.set_options(asked.function, asked.options)
        pipeline.note("config", f"set {asked.function} {asked.options}", important=True)
        options: dict[str, Any] = msgspec.to_builtins(pipeline.functions[asked.function].options)
        return options

    def counters(self, asked: messages.CountBox) -> BoxCounters:
        self._started().note("mib", "counters")
        return self._started().counters()

    def functions(self, asked: messages.Functions) -> list[FunctionState]:
        self._started().note("show", "functions")
        return self._states()

    def log(self, asked: messages.Log) -> list[str]:
        """The newest lines of the function that keeps a log."""
        pipeline = self._started()
        pipeline.note("show", f"log, last {asked.last}")
        for function in pipeline.functions.values():
            lines = function.log_lines(asked.last)
            if lines is not None:
                return lines
        raise ValueError(f"{self._name} keeps no log; give it the function 'trace-log'")

    def _states(self) -> list[FunctionState]:
        return [
            FunctionState(
                name=name,
                enabled=function.enabled,
                options=msgspec.to_builtins(function.options),
                counters=dict(function.counters) | function.gauges(),
            )
            for name, function in self._started().functions.items()
        ]

    def _started(self) -> Pipeline:
        if self._pipeline is None:
            raise ValueError("it was not started yet")
        return self._pipeline

    def _having(self, function: str) -> Pipeline:
        """The pipeline, which must have this function."""
        pipeline = self._started()
        pipeline.note("command-queued", f"for {function}")
        if function not in pipeline.functions:
            raise ValueError(
                f"{self._name} has no function '{function}'; it has "
                f"{', '.join(pipeline.functions) or 'none'}"
                f"{suggestion(function, pipeline.functions)}"
            )
        return pipeline

    # The loop

    def run(self, server: ControlServer) -> None:
        """Carry packets and answer requests until the lab hangs up."""
        control = server.fileno()
        self._loop.register(control)
        # Where waits are exact the next wait ends at once if there is more, and looking in vain
        # for more would take time.
        batch = 1 if waits_are_exact() else _BATCH
        while True:
            steers = self._output.steers
            began = time.monotonic_ns() if steers else 0
            readable = self._loop.wait(self._timers.next_due())
            if steers:
                self._output.choose(time.monotonic_ns() - began)
            if control in readable and not server.serve_one():
                return
            pipeline = self._pipeline
            if pipeline is None:
                continue
            for side, device in self._devices.items():
                if device.fileno() in readable:
                    self._output.pace(_drain(pipeline, side, device, batch), _BATCH)
            if self._loop.may_be_due:
                self._timers.fire()
            pipeline.send_waiting()


def _drain(pipeline: Pipeline, side: Side, device: FileIO, batch: int) -> int:
    """Take what a TUN device has, but no more than a batch: the other side wants its turn.

    How many packets it had.
    """
    buffer, read = pipeline.buffer, device.readinto
    for taken in range(batch):
        length = read(buffer)
        if length is None:
            return taken
        pipeline.receive(side, buffer, length)
    return batch


def main() -> None:
    """Serve the lab until it hangs up."""
    control = control_descriptor()
    set_timer_slack()
    engine = Engine()
    engine.run(ControlServer(control, engine.handlers))
