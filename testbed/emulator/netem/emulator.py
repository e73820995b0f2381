"""The emulator made of the kernel's qdiscs, in the middle of each link."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import count

from testbed.emulator.changes import BothDirections, after, directions_of
from testbed.emulator.counters import AppliedChange, Lateness, LinkCounters
from testbed.emulator.limits import refuse_impossible
from testbed.emulator.netem import description as netem
from testbed.emulator.netem.description import HEAD_START, LONG_HEAD_START, HeadStart
from testbed.emulator.netem.middle import HopsInForce, Middle
from testbed.emulator.netem.probe import NetemSupport
from testbed.emulator.netem.schedule import ScheduleThread
from testbed.emulator.schedule import Schedule
from testbed.errors import LabError
from testbed.kernel import sysctl
from testbed.kernel.namespace import Namespace
from testbed.kernel.netlink import redirect, rtnetlink, state
from testbed.kernel.netlink.rtnetlink import LinkEnd
from testbed.kernel.netlink.socket import Netlink
from testbed.topology.model import DirectionName, Impairments, ScheduledChange

_QUIET = {
    "net.ipv6.conf.all.disable_ipv6": "1",
    "net.ipv6.conf.default.disable_ipv6": "1",
}


class _NetemLink:
    """What is known of one link."""

    def __init__(
        self,
        name: str,
        middle: Middle,
        *,
        seed: int | None,
        mtu: int,
        offload: bool,
        head_start: HeadStart,
    ) -> None:
        self.name = name
        self.middle = middle
        self.seed = seed
        self.mtu = mtu
        self.offload = offload
        self.head_start = head_start
        self.impairments: BothDirections = {}
        self.in_force: dict[DirectionName, HopsInForce] = {}
        self.cuts: set[DirectionName] = set()
        self.schedule: ScheduleThread | None = None

    def hops(self, impairments: BothDirections) -> dict[DirectionName, netem.Hops]:
        """What the qdiscs of both directions must be."""
        round_trip = sum(each.delay for each in impairments.values())
        return {
            direction: netem.hops(
                each,
                round_trip,
                self.mtu,
                offload=self.offload,
                head_start=self.head_start,
                seeds=None if self.seed is None else netem.seeds(self.seed, self.name, direction),
            )
            for direction, each in impairments.items()
        }


class NetemEmulator:
    """Emulates links in `namespace`, which belongs to it alone. Usable from any thread.

    take_index: gives interface indices that are used nowhere else in the lab. support: what the
    kernel can do.
    """

    name = "netem"

    def __init__(
        self, namespace: Namespace, take_index: Callable[[], int], support: NetemSupport
    ) -> None:
        # Addresses of the middle would be heard at the ends.
        namespace.call(sysctl.write, _QUIET)
        self._namespace = namespace
        self._netlink = namespace.call(Netlink)
        self._take_index = take_index
        self._support = support
        self._numbers = count()
        self._lock = threading.RLock()
        self._links: dict[str, _NetemLink] = {}
        self._closed = False

    def close(self) -> None:
        """End the schedules and the conversation with the kernel; links stay as they are."""
        with self._lock:
            self._closed = True
            for link in self._links.values():
                if link.schedule is not None:
                    link.schedule.cancel()
            self._netlink.close()

    def add_link(
        self,
        name: str,
        end_a: LinkEnd,
        end_b: LinkEnd,
        forward: Impairments,
        reverse: Impairments,
        *,
        seed: int = 0,
        offload: bool = False,
    ) -> None:
        """Make the interfaces `end_a` and `end_b` and everything between them.

        Raises `LabError` for impairments that netem cannot do, `KernelError` for what this kernel
        cannot.
        """
        for impairments in (forward, reverse):
            _refuse(impairments)
        with self._lock:
            indices = [self._take_index() for _ in range(6)]
            middle = Middle(next(self._numbers), *indices)
            link = _NetemLink(
                name,
                middle,
                seed=seed if self._support.seeded else None,
                mtu=max(end_a.mtu, end_b.mtu),
                offload=offload,
                head_start=LONG_HEAD_START if self._support.coarse_timers else HEAD_START,
            )
            link.impairments = {"forward": forward, "reverse": reverse}
            for direction, hops in link.hops(link.impairments).items():
                link.in_force[direction] = HopsInForce(middle.paths[direction], hops)
            requests = middle.cables(self._namespace.fileno(), end_a, end_b)
            for in_force in link.in_force.values():
                requests += in_force.requests()
            self._netlink.execute([*requests, *middle.joints()])
            self._links[name] = link

    def await_carriers(self) -> None:
        """Return when frames can pass through every link; the ends must be up.

        Raises `ReadBackError` when they do not come to.
        """
        wanted = [name for link in self._links.values() for name in link.middle.names]
        with self._namespace.call(Netlink) as netlink:
            state.await_carriers(netlink, wanted)

    def set(self, name: str, direction: DirectionName, impairments: Impairments) -> None:
        """See `Emulator`. What waits is dropped with a discipline replaced, or a changed red."""
        _refuse(impairments)
        with self._lock:
            link = self._link(name)
            self._configure(link, {**link.impairments, direction: impairments})

    def _configure(self, link: _NetemLink, wanted: BothDirections) -> None:
        # Both directions: a limit in bandwidth-delay products depends on both delays.
        for direction, hops in link.hops(wanted).items():
            link.in_force[direction].change(self._netlink, hops)
        link.impairments = wanted

    def cut(self, name: str, direction: DirectionName | None = None) -> None:
        """See `Emulator`."""
        with self._lock:
            link = self._link(name)
            for each in set(directions_of(direction)) - link.cuts:
                self._netlink.execute([redirect.drop(link.middle.paths[each].entry)])
                link.cuts.add(each)

    def restore(self, name: str, direction: DirectionName | None = None) -> None:
        """See `Emulator`."""
        with self._lock:
            link = self._link(name)
            for each in set(directions_of(direction)) & link.cuts:
                self._netlink.execute([redirect.drop_no_more(link.middle.paths[each].entry)])
                link.cuts.remove(each)

    def plug(self, name: str, plugged: bool) -> None:
        """See `Emulator`. The ends see the carrier of the interfaces that they are joined to."""
        with self._lock:
            middle = self._link(name).middle
            self._netlink.execute(
                [
                    rtnetlink.set_link(index, end, up=plugged)
                    for end, index in middle.names.items()
                    if index in (middle.a, middle.b)
                ]
            )

    def schedule(self, name: str, changes: Sequence[ScheduledChange]) -> None:
        """See `Emulator`; all of it is checked now."""
        with self._lock:
            link = self._link(name)
            planned = link.impairments
            for change in sorted(changes, key=lambda one: one.at):
                planned = _after(planned, change)
            try:
                schedule = Schedule(
                    changes, time.monotonic_ns(), lambda change: self._apply(link, change)
                )
            except ValueError as error:
                raise LabError(str(error)) from None
            if link.schedule is not None:
                link.schedule.cancel()
            link.schedule = ScheduleThread(schedule)

    def _apply(self, link: _NetemLink, change: ScheduledChange) -> None:
        with self._lock:
            if self._closed:
                return
            self._configure(link, _after(link.impairments, change))
            if change.cut is not None:
                (self.cut if change.cut else self.restore)(link.name, change.direction)
            if change.plugged is not None:
                self.plug(link.name, change.plugged)

    def journal(self, name: str) -> tuple[AppliedChange, ...]:
        """See `Emulator`."""
        schedule = self._link(name).schedule
        return () if schedule is None else tuple(schedule.schedule.journal)

    def counters(self, name: str) -> LinkCounters:
        """See `Emulator`. The kernel tells neither its lateness nor what it corrupted."""
        with self._lock:
            in_force = self._link(name).in_force
            return LinkCounters(
                forward=in_force["forward"].counters(self._netlink),
                reverse=in_force["reverse"].counters(self._netlink),
                lateness=Lateness(),
            )

    def read_back(self, name: str) -> tuple[Impairments, Impairments]:
        """What was asked for, after a look at the qdiscs that stand for it.

        Raises `ReadBackError` when the kernel has others.
        """
        with self._lock:
            link = self._link(name)
            for in_force in link.in_force.values():
                in_force.verify(self._netlink)
            return link.impairments["forward"], link.impairments["reverse"]

    def _link(self, name: str) -> _NetemLink:
        if name not in self._links:
            raise LabError(f"the netem emulator has no link '{name}'")
        return self._links[name]


def _after(impairments: BothDirections, change: ScheduledChange) -> BothDirections:
    try:
        changed = after(impairments, change)
    except ValueError as error:
        raise LabError(f"a scheduled change at {change.at:g} s: {error}") from None
    for each in changed.values():
        _refuse(each)
    return changed


def _refuse(impairments: Impairments) -> None:
    try:
        refuse_impossible(impairments, kernel_queues=True)
    except ValueError as error:
        raise LabError(f"impairments of a link: {error}") from None
    problems = list(netem.refusals(impairments))
    if problems:
        raise LabError(f"impairments of a link: {'; '.join(problems)}")
