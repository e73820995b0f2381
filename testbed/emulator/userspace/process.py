"""The emulator's process: answers the lab on a control channel while it carries frames."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from testbed.emulator.counters import LatenessHistogram, LinkCounters
from testbed.emulator.fate import LogFile
from testbed.emulator.userspace.ferry import Ferry
from testbed.emulator.userspace.link import DirectionName, Link, Workspace
from testbed.emulator.userspace.schedule import Schedule
from testbed.emulator.userspace.steered import Steered
from testbed.kernel.devices.arrival_stamps import ArrivalStamps
from testbed.kernel.processes.confine import (
    drop_privileges,
    lock_memory,
    prefer_realtime,
    set_timer_slack,
    still_garbage_collector,
)
from testbed.kernel.processes.control import ControlServer
from testbed.topology.model import Impairments, ScheduledChange


class AddLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `add_link`.

    The descriptors of both ends come with it; then, where `stamped`, the rings of their arrival
    stamps; then, where `logged`, that of the log.
    """

    name: str
    forward: Impairments
    reverse: Impairments
    seed: int
    stamped: bool = False
    logged: bool = False


class SetImpairments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `set`."""

    name: str
    direction: DirectionName
    impairments: Impairments


class SetSchedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `schedule`."""

    name: str
    changes: tuple[ScheduledChange, ...]


class Processors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `steer`: the emulator's own processor, and those of the receivers."""

    own: int
    receivers: tuple[int, ...]


class OfLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of operations on one direction of a link, or on both."""

    name: str
    direction: DirectionName | None = None


class Operations:
    """What the lab can ask for. Each method raises `ValueError` for what cannot be done."""

    def __init__(self) -> None:
        self._workspace = Workspace(LatenessHistogram(), Steered())
        self.ferry = Ferry(self._workspace.steered)
        self._schedules: dict[str, Schedule] = {}
        self.handlers = {
            "ready": self.ready,
            "steer": self.steer,
            "add_link": self.add_link,
            "set": self.set,
            "cut": self.cut,
            "restore": self.restore,
            "schedule": self.schedule,
            "journal": self.journal,
            "counters": self.counters,
            "read_back": self.read_back,
        }

    def ready(self, arguments: dict[str, Any], fds: list[int]) -> None:
        _refuse_descriptors("ready", fds)

    def steer(self, arguments: dict[str, Any], fds: list[int]) -> None:
        _refuse_descriptors("steer", fds)
        asked = msgspec.convert(arguments, Processors)
        self._workspace.steered.begin(asked.own, asked.receivers)

    def add_link(self, arguments: dict[str, Any], fds: list[int]) -> None:
        try:
            asked = msgspec.convert(arguments, AddLink)
            expected = 2 + 2 * asked.stamped + asked.logged
            if len(fds) != expected:
                raise ValueError(f"add_link takes {expected} descriptors here, got {len(fds)}")
            if asked.name in self.ferry:
                raise ValueError(f"link '{asked.name}' is there already")
            stamps = (ArrivalStamps(fds[2]), ArrivalStamps(fds[3])) if asked.stamped else None
            link = Link(
                asked.name,
                (fds[0], fds[1]),
                asked.forward,
                asked.reverse,
                asked.seed,
                self._workspace,
                LogFile(fds[-1]) if asked.logged else None,
                stamps,
            )
            self.ferry.add(link)
        except (ValueError, OSError):
            for fd in fds:
                os.close(fd)
            raise
        if asked.stamped:  # mapped by now
            os.close(fds[2])
            os.close(fds[3])

    def set(self, arguments: dict[str, Any], fds: list[int]) -> None:
        _refuse_descriptors("set", fds)
        asked = msgspec.convert(arguments, SetImpairments)
        link = self._link(asked.name)
        link.set(asked.direction, asked.impairments)
        self.ferry.reschedule(link)

    def cut(self, arguments: dict[str, Any], fds: list[int]) -> None:
        self._cut(arguments, fds, True)

    def restore(self, arguments: dict[str, Any], fds: list[int]) -> None:
        self._cut(arguments, fds, False)

    def _cut(self, arguments: dict[str, Any], fds: list[int], engaged: bool) -> None:
        _refuse_descriptors("cut", fds)
        asked = msgspec.convert(arguments, OfLink)
        self._link(asked.name).cut(asked.direction, engaged)

    def schedule(self, arguments: dict[str, Any], fds: list[int]) -> None:
        _refuse_descriptors("schedule", fds)
        asked = msgspec.convert(arguments, SetSchedule)
        link = self._link(asked.name)
        schedule = Schedule(link, asked.changes, time.monotonic_ns(), self.ferry.reschedule)
        if asked.name in self._schedules:
            self._schedules[asked.name].cancel()
        self._schedules[asked.name] = schedule
        self.ferry.schedule(schedule)

    def journal(self, arguments: dict[str, Any], fds: list[int]) -> Any:
        _refuse_descriptors("journal", fds)
        name = self._link(msgspec.convert(arguments, OfLink).name).name
        schedule = self._schedules.get(name)
        return msgspec.to_builtins(schedule.journal if schedule else [])

    def counters(self, arguments: dict[str, Any], fds: list[int]) -> Any:
        _refuse_descriptors("counters", fds)
        link = self._link(msgspec.convert(arguments, OfLink).name)
        now = time.monotonic_ns()
        counted = {
            name: direction.pipeline.counters(now) for name, direction in link.directions.items()
        }
        self.ferry.reschedule(link)
        if link.log is not None:
            link.log.flush()
        return msgspec.to_builtins(
            LinkCounters(
                forward=counted["forward"],
                reverse=counted["reverse"],
                lateness=self._workspace.lateness.summary(),
                cpu_seconds=time.process_time(),
                log_error=link.log.error if link.log is not None else "",
            )
        )

    def read_back(self, arguments: dict[str, Any], fds: list[int]) -> Any:
        _refuse_descriptors("read_back", fds)
        link = self._link(msgspec.convert(arguments, OfLink).name)
        return {
            name: msgspec.to_builtins(direction.pipeline.in_force)
            for name, direction in link.directions.items()
        }

    def _link(self, name: str) -> Link:
        if name not in self.ferry:
            raise ValueError(f"there is no link '{name}'")
        return self.ferry[name]


def _refuse_descriptors(operation: str, fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
    if fds:
        raise ValueError(f"{operation} takes no descriptors, got {len(fds)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Serve on the descriptor given by `--control` until the lab hangs up."""
    parser = argparse.ArgumentParser(prog="python -m testbed.emulator", description=__doc__)
    parser.add_argument("--control", type=int, required=True, metavar="FD")
    control = parser.parse_args(argv).control
    # Ctrl-C reaches every process of the terminal; it is the lab that decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    operations = Operations()
    server = ControlServer(control, operations.handlers)
    set_timer_slack()
    prefer_realtime()
    lock_memory()
    drop_privileges()
    still_garbage_collector()
    operations.ferry.run(server)
