"""The emulator's process: answers the lab on a control channel while it carries frames."""

from __future__ import annotations

import os
import resource
import time

from testbed.emulator.counters import AppliedChange, LatenessHistogram, LinkCounters
from testbed.emulator.fate import LogFile
from testbed.emulator.schedule import Schedule
from testbed.emulator.userspace import messages
from testbed.emulator.userspace.link import EmulatedLink, Workspace
from testbed.emulator.userspace.link_loop import LinkLoop
from testbed.errors import KernelError
from testbed.kernel.devices.arrival_stamps import ArrivalStamps
from testbed.kernel.load_sharing import LoadSharing
from testbed.kernel.processes.confine import (
    drop_privileges,
    lock_memory,
    prefer_realtime,
    set_timer_slack,
    still_garbage_collector,
)
from testbed.kernel.processes.control import (
    ControlServer,
    Descriptor,
    Handler,
    Message,
    control_descriptor,
)
from testbed.topology.model import Impairments, ScheduledChange


class Operations:
    """What the lab can ask for. Each method raises `ValueError` for what cannot be done."""

    def __init__(self) -> None:
        self._workspace = Workspace(LatenessHistogram(), LoadSharing())
        self.loop = LinkLoop(self._workspace.load)
        self._schedules: dict[str, Schedule] = {}
        self.handlers: dict[type[Message], Handler] = {
            messages.Steer: self.steer,
            messages.AddLink: self.add_link,
            messages.SetImpairments: self.set,
            messages.SetCut: self.cut,
            messages.SetPlug: self.plug,
            messages.SetSchedule: self.schedule,
            messages.Journal: self.journal,
            messages.CountLink: self.counters,
            messages.ReadBack: self.read_back,
        }

    def steer(self, asked: messages.Steer) -> None:
        self._workspace.load.begin(asked.placement)

    def add_link(self, asked: messages.AddLink) -> None:
        if asked.name in self.loop:
            raise ValueError(f"link '{asked.name}' is there already")
        rings = [ring for ring in (asked.stamps_a, asked.stamps_b) if ring is not None]
        link = EmulatedLink(
            asked.name,
            (asked.tap_a.fileno(), asked.tap_b.fileno()),
            asked.forward,
            asked.reverse,
            asked.seed,
            self._workspace,
            None if asked.log is None else LogFile(asked.log.fileno()),
            (_stamps(asked.stamps_a), _stamps(asked.stamps_b)),
        )
        self.loop.add(link)
        for ring in rings:  # mapped by now
            os.close(ring.fileno())

    def set(self, asked: messages.SetImpairments) -> None:
        link = self._link(asked.name)
        link.set(asked.direction, asked.impairments)
        self.loop.reschedule(link)

    def cut(self, asked: messages.SetCut) -> None:
        self._link(asked.name).cut(asked.direction, asked.engaged)

    def plug(self, asked: messages.SetPlug) -> None:
        try:
            self._link(asked.name).plug(asked.plugged)
        except KernelError as error:
            raise ValueError(str(error)) from None

    def schedule(self, asked: messages.SetSchedule) -> None:
        link = self._link(asked.name)

        def apply(change: ScheduledChange) -> None:
            link.apply(change)
            self.loop.reschedule(link)

        schedule = Schedule(asked.changes, time.monotonic_ns(), apply)
        link.rehearse(asked.changes)
        if asked.name in self._schedules:
            self._schedules[asked.name].cancel()
        self._schedules[asked.name] = schedule
        self.loop.schedule(schedule)

    def journal(self, asked: messages.Journal) -> list[AppliedChange]:
        schedule = self._schedules.get(self._link(asked.name).name)
        return schedule.journal if schedule else []

    def counters(self, asked: messages.CountLink) -> LinkCounters:
        link = self._link(asked.name)
        now = time.monotonic_ns()
        forward, reverse = (direction.chain.counters(now) for direction in link.directions.values())
        self.loop.reschedule(link)
        if link.log is not None:
            link.log.flush()
        return LinkCounters(
            forward=forward,
            reverse=reverse,
            lateness=self._workspace.lateness.summary(),
            cpu_seconds=time.process_time(),
            log_error=link.log.error if link.log is not None else "",
        )

    def read_back(self, asked: messages.ReadBack) -> list[Impairments]:
        directions = self._link(asked.name).directions.values()
        return [direction.chain.in_force for direction in directions]

    def _link(self, name: str) -> EmulatedLink:
        if name not in self.loop:
            raise ValueError(f"there is no link '{name}'")
        return self.loop[name]


def _stamps(ring: Descriptor | None) -> ArrivalStamps | None:
    return None if ring is None else ArrivalStamps(ring.fileno())


def main() -> None:
    """Serve the lab until it hangs up."""
    control = control_descriptor()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    operations = Operations()
    server = ControlServer(control, operations.handlers)
    set_timer_slack()
    prefer_realtime()
    lock_memory()
    drop_privileges()
    still_garbage_collector()
    operations.loop.run(server)
