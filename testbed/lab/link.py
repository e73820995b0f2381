"""A link of a running lab: its impairments can be changed, and it can be cut."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from testbed.emulator.changes import directions_of
from testbed.emulator.counters import LinkCounters
from testbed.emulator.emulator import Emulator
from testbed.emulator.fate_file import FateFile
from testbed.errors import CaptureError, InvalidValue, LabError, ReadBackError, blame
from testbed.kernel.namespace import Namespace
from testbed.kernel.netlink import state
from testbed.kernel.netlink.socket import Netlink
from testbed.topology.model import DirectionName, Impairments, Match, ScheduledChange
from testbed.topology.planning.matches import AddressesOf, changes_with_addresses
from testbed.topology.planning.plan_model import PlannedLink
from testbed.topology.yaml.impairments import parse_changes
from testbed.wording import sentence


class LinkEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a link's schedule that has happened.

    change: what was asked for, `change.at` seconds after the schedule began; time_ns: when it
    happened, on the real-time clock, the one of captures; error: why it could not, or empty.
    """

    change: ScheduledChange
    time_ns: int
    error: str = ""


class LabLink:
    """One link; got by `lab.link("a", "b")`. Usable from any thread.

    A direction is named by the node it leads to (`toward="b"`); None stands for both.
    """

    def __init__(
        self,
        planned: PlannedLink,
        emulator: Emulator | None,
        namespaces: tuple[Namespace, Namespace],
        addresses_of: AddressesOf,
        check: Callable[[], None],
        fate_file: FateFile | None = None,
    ) -> None:
        self.planned = planned
        self._fate_file = fate_file
        self._emulator = emulator
        self._namespaces = namespaces
        self._addresses_of = addresses_of
        self._check = check
        self._lock = threading.Lock()  # between reading what is in force and changing it

    def __repr__(self) -> str:
        return f"<LabLink {self.name}>"

    @property
    def name(self) -> str:
        return link_name(self.planned)

    @property
    def nodes(self) -> tuple[str, str]:
        return self.planned.a.node, self.planned.b.node

    def joins(self, a: str, b: str) -> bool:
        """Whether these are its ends, in either order, each a node or `node:interface`."""
        one, other = ({end.node, str(end)} for end in (self.planned.a, self.planned.b))
        return (a in one and b in other) or (a in other and b in one)

    @property
    def emulator(self) -> Emulator:
        """What makes the link, for what it can do beyond this; knows the link by its name."""
        return self._running_emulator("emulated")

    def cut(self, toward: str | None = None) -> None:
        """Drop every frame that enters the link from now on, without telling the ends."""
        emulator = self._running_emulator("cut")
        for direction in self.directions(toward):
            emulator.cut(self.name, direction)

    def restore(self, toward: str | None = None) -> None:
        """End a cut."""
        emulator = self._running_emulator("restored")
        for direction in self.directions(toward):
            emulator.restore(self.name, direction)

    def unplug(self) -> None:
        """Pull the cable out: both ends lose their carrier, and what is under way is lost."""
        self._plug(False)

    def plug(self) -> None:
        """Put the cable back; the routes of both ends hold again."""
        self._plug(True)

    def _plug(self, plugged: bool) -> None:
        emulator = self._running_emulator("plugged" if plugged else "unplugged")
        emulator.plug(self.name, plugged)
        for namespace, end in zip(self._namespaces, (self.planned.a, self.planned.b), strict=True):
            with blame(f"link {self.name}, node '{end.node}'"), namespace.call(Netlink) as netlink:
                state.await_plugged(netlink, end.name, plugged)

    @property
    def plugged(self) -> bool:
        """Whether both ends have a carrier, as their kernels say."""
        self._check()
        found = []
        for namespace, end in zip(self._namespaces, (self.planned.a, self.planned.b), strict=True):
            with namespace.call(Netlink) as netlink:
                found.append(state.interfaces(netlink)[end.name].linked)
        return all(found)

    def set(self, /, toward: str | None = None, **changes: object) -> None:
        """Change some impairments, e.g. `set(delay="50ms", loss=0.01)`; the others stay.

        Values are as in YAML (`jitter={"spread": "5ms"}`), or as in the model
        (`jitter=Jitter(spread=0.005)`), or numbers in seconds, bit/s and probabilities;
        `rate=None` lifts the limit, and None ends a jitter, duplication, reordering or
        corruption. Packets that are under way arrive when they would have. The change is read
        back. Raises `LabError` for an unknown impairment or an impossible value.
        """
        emulator = self._running_emulator("changed")
        try:
            values = changes_with_addresses(parse_changes(changes), self._addresses_of)
        except InvalidValue as error:
            raise LabError(sentence(f"The link {self.name} cannot be changed: {error}")) from None
        with self._lock:
            self._change(emulator, self.directions(toward), values)

    def _change(
        self, emulator: Emulator, directions: Sequence[DirectionName], values: dict[str, Any]
    ) -> None:
        for direction in directions:
            wanted = msgspec.structs.replace(self.impairments(direction), **values)
            emulator.set(self.name, direction, wanted)
            check_impairments(self.name, direction, wanted, self.impairments(direction))

    def impairments(self, direction: DirectionName) -> Impairments:
        """What is in force from the first node to the second (`forward`), or back (`reverse`)."""
        if self._emulator is None:
            return Impairments()
        forward, reverse = self._emulator.read_back(self.name)
        return forward if direction == "forward" else reverse

    @property
    def counters(self) -> LinkCounters:
        """What became of every packet, for each direction, and how late the emulator was."""
        return self._running_emulator("counted").counters(self.name)

    def start_schedule(self) -> None:
        """Put the link into its initial state and begin its schedule, from now on.

        The lab does so by itself when it is ready; this is for those who want it anew. Raises
        `LabError` for a link that has no schedule.
        """
        emulator = self._running_emulator("changed")
        if not self.planned.schedule:
            raise LabError(f"The link {self.name} has no `schedule` in the topology.")
        emulator.schedule(self.name, ())
        with self._lock:
            self.restore()
            emulator.plug(self.name, True)
            emulator.set(self.name, "forward", self.planned.forward)
            emulator.set(self.name, "reverse", self.planned.reverse)
            emulator.schedule(self.name, self.planned.schedule)

    @property
    def events(self) -> tuple[LinkEvent, ...]:
        """What the schedule has done up to now, in order."""
        changes = sorted(self.planned.schedule, key=lambda change: change.at)
        applied = self._running_emulator("asked").journal(self.name) if changes else ()
        return tuple(
            LinkEvent(change=change, time_ns=one.time_ns, error=one.error)
            for change, one in zip(changes, applied, strict=False)
        )

    @property
    def fates(self) -> Path:
        """The file with the fate of every packet up to now; `testbed.trace.read_fates` reads it.

        Without a directory for captures it vanishes with the lab. Raises `LabError` when the
        link keeps no log, and `CaptureError` when it is not complete.
        """
        self._check()
        if self._fate_file is None:
            raise LabError(
                f"The link {self.name} keeps no log of fates; give it `log: true` in the topology."
            )
        error = self.log_error()
        if error is not None:
            raise error
        return self._fate_file.path

    def log_error(self) -> CaptureError | None:
        """What is wrong with the log of fates; has everything up to now written to it."""
        missing = self.counters.log_error
        return CaptureError(f"Link {self.name}: {missing}.") if missing else None

    def _running_emulator(self, what: str) -> Emulator:
        self._check()
        if self._emulator is None:
            raise LabError(
                f"The link {self.name} is a plain cable without an emulator and cannot be {what}. "
                "Give it `emulated: true` in the topology."
            )
        return self._emulator

    def directions(self, toward: str | None) -> tuple[DirectionName, ...]:
        """The direction to a node, or both. Raises `LabError` for a node at neither end."""
        if toward is None:
            return directions_of(None)
        if toward not in self.nodes:
            raise LabError(
                f"The link {self.name} does not lead to '{toward}', only to "
                f"'{self.nodes[0]}' and '{self.nodes[1]}'."
            )
        return ("forward",) if toward == self.nodes[1] else ("reverse",)


def link_name(planned: PlannedLink) -> str:
    """How messages and the emulator call a link: `a:eth0-b:eth0`."""
    return f"{planned.a}-{planned.b}"


def check_impairments(name: str, direction: str, wanted: Impairments, found: Impairments) -> None:
    """Raise `ReadBackError` when the emulator has something else in force than was asked for."""
    for field in Impairments.__struct_fields__:
        asked, has = getattr(wanted, field), getattr(found, field)
        if not _alike(asked, has):
            raise ReadBackError(
                f"link {name}, {direction}: {field} was to be {asked}, the emulator has {has}."
            )


def _alike(asked: object, has: object) -> bool:
    """Times are whole nanoseconds in the emulator."""
    if isinstance(asked, Match) and isinstance(has, Match):
        fields = Impairments.__struct_fields__
        inside = all(
            _alike(getattr(asked.impairments, field), getattr(has.impairments, field))
            for field in fields
        )
        return inside and msgspec.structs.replace(has, impairments=asked.impairments) == asked
    if isinstance(asked, tuple) and isinstance(has, tuple):
        return len(asked) == len(has) and all(map(_alike, asked, has))
    near = isinstance(asked, float) and isinstance(has, float) and abs(asked - has) < 1e-9
    return near or asked == has
