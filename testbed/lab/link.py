"""A link of a running lab: its impairments can be changed, and it can be cut."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from testbed.emulator.counters import LinkCounters
from testbed.emulator.emulator import Emulator
from testbed.errors import InvalidValue, LabError, ReadBackError
from testbed.topology.model import Impairments, Queue
from testbed.topology.plan_model import PlannedLink
from testbed.topology.units import (
    parse_duration,
    parse_probability,
    parse_queue_limit,
    parse_rate,
)

Direction = Literal["forward", "reverse"]

_READERS: dict[str, Callable[[object], Any]] = {
    "rate": lambda value: None if value is None else parse_rate(value),
    "delay": parse_duration,
    "loss": parse_probability,
    "queue": lambda value: Queue(limit=parse_queue_limit(value)),
}


class Link:
    """One link; got by `lab.link("a", "b")`. Usable from any thread.

    A direction is named by the node it leads to (`toward="b"`); None stands for both.
    """

    def __init__(
        self, planned: PlannedLink, emulator: Emulator | None, check: Callable[[], None]
    ) -> None:
        self.planned = planned
        self._emulator = emulator
        self._check = check
        self._lock = threading.Lock()  # between reading what is in force and changing it

    def __repr__(self) -> str:
        return f"<Link {self.name}>"

    @property
    def name(self) -> str:
        return link_name(self.planned)

    @property
    def nodes(self) -> tuple[str, str]:
        return self.planned.a.node, self.planned.b.node

    @property
    def emulator(self) -> Emulator:
        """What makes the link, for what it can do beyond this; knows the link by its name."""
        return self._running_emulator("emulated")

    def cut(self, toward: str | None = None) -> None:
        """Drop every frame that enters the link from now on, without telling the ends."""
        emulator = self._running_emulator("cut")
        for direction in self._directions(toward):
            emulator.cut(self.name, direction)

    def restore(self, toward: str | None = None) -> None:
        """End a cut."""
        emulator = self._running_emulator("restored")
        for direction in self._directions(toward):
            emulator.restore(self.name, direction)

    def set(self, toward: str | None = None, **changes: object) -> None:
        """Change some impairments, e.g. `set(delay="50ms", loss=0.01)`; the others stay.

        Rate, delay, loss and queue are as in YAML, or numbers in seconds, bit/s and
        probabilities; the others are as in the model (`jitter=Jitter(spread=0.005)`), None for
        none. `rate=None` lifts the limit. Packets that are under way arrive when they would
        have. The change is read back. Raises `LabError` for an unknown impairment or an
        impossible value.
        """
        emulator = self._running_emulator("changed")
        values = {name: _read(name, value) for name, value in changes.items()}
        with self._lock:
            self._change(emulator, self._directions(toward), values)

    def _change(
        self, emulator: Emulator, directions: Sequence[Direction], values: dict[str, Any]
    ) -> None:
        for direction in directions:
            wanted = msgspec.structs.replace(self.impairments(direction), **values)
            emulator.set(self.name, direction, wanted)
            check_impairments(self.name, direction, wanted, self.impairments(direction))

    def impairments(self, direction: Direction) -> Impairments:
        """What is in force from the first node to the second (`forward`), or back (`reverse`)."""
        if self._emulator is None:
            return Impairments()
        forward, reverse = self._emulator.read_back(self.name)
        return forward if direction == "forward" else reverse

    @property
    def counters(self) -> LinkCounters:
        """What became of every packet, for each direction, and how late the emulator was."""
        return self._running_emulator("counted").counters(self.name)

    def _running_emulator(self, what: str) -> Emulator:
        self._check()
        if self._emulator is None:
            raise LabError(
                f"The link {self.name} is a plain cable without an emulator and cannot be {what}. "
                "Give it `emulated: true` in the topology."
            )
        return self._emulator

    def _directions(self, toward: str | None) -> tuple[Direction, ...]:
        if toward is None:
            return ("forward", "reverse")
        if toward not in self.nodes:
            raise LabError(
                f"The link {self.name} does not lead to '{toward}', only to "
                f"'{self.nodes[0]}' and '{self.nodes[1]}'."
            )
        return ("forward",) if toward == self.nodes[1] else ("reverse",)


def link_name(planned: PlannedLink) -> str:
    """How messages and the emulator call a link: `a:eth0-b:eth0`."""
    a, b = planned.a, planned.b
    return f"{a.node}:{a.name}-{b.node}:{b.name}"


def check_impairments(name: str, direction: str, wanted: Impairments, found: Impairments) -> None:
    """Raise `ReadBackError` when the emulator has something else in force than was asked for."""
    for field in Impairments.__struct_fields__:
        asked, has = getattr(wanted, field), getattr(found, field)
        # Times are whole nanoseconds in the emulator.
        near = isinstance(asked, float) and isinstance(has, float) and abs(asked - has) < 1e-9
        if asked != has and not near:
            raise ReadBackError(
                f"link {name}, {direction}: {field} was to be {asked}, the emulator has {has}."
            )


def _read(name: str, value: object) -> Any:
    known = Impairments.__struct_fields__
    if name not in known:
        raise LabError(f"There is no impairment '{name}'; there are {', '.join(known)}.")
    if name not in _READERS or isinstance(value, Queue):
        return value  # as in the model; the emulator refuses what it cannot be
    reader = _READERS[name]
    if name != "queue" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)  # in base units; the emulator refuses impossible ones
    try:
        return reader(value)
    except InvalidValue as error:
        raise LabError(f"The impairment {name} cannot be {value!r}: {error}.") from None
