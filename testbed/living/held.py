"""A lab in the hands of its holder: the verbs of its API, and who is told of what they do."""

from __future__ import annotations

import threading
import time
from decimal import Decimal
from typing import Any

import msgspec

from testbed.emulator.changes import directions_of
from testbed.errors import LabError, TestbedError
from testbed.lab import Lab, LabLink
from testbed.living.events import EventLog
from testbed.living.records import LabRecord
from testbed.topology.model import DirectionName

_JOURNAL_SECONDS = 0.05


def _as_yaml(value: Any) -> Any:
    """A number as it stands in YAML, where a delay without a unit is refused: in Python it means
    seconds, bit/s or a probability."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return format(Decimal(repr(value)), "f")


class HeldLab:
    """One lab while its holder lives."""

    def __init__(self, lab: Lab, record: LabRecord) -> None:
        self.lab = lab
        self.record = record
        self.events = EventLog()
        self.over = threading.Event()
        self._cut: set[tuple[str, DirectionName]] = set()
        self._ending = threading.Lock()

    def begin(self) -> None:
        """Listen to what happens by itself; call it once the lab runs."""
        self.lab.on_failure(self._tell_death)
        scheduled = [link for link in self.lab.links if link.planned.schedule]
        for link in scheduled:
            threading.Thread(target=self._tell_schedule, args=[link], daemon=True).start()

    def change_link(
        self, link: LabLink, verb: str, toward: str | None, changes: dict[str, Any] | None = None
    ) -> None:
        """Cut, restore or set a link, and tell of it."""
        if changes is not None:
            if "toward" in changes:
                raise LabError("`toward` is no impairment: it goes beside the changes.")
            link.set(toward, **{name: _as_yaml(value) for name, value in changes.items()})
        elif verb == "cut":
            link.cut(toward)
        else:
            link.restore(toward)
        if verb in ("cut", "restore"):
            self._note_cut(link, link.directions(toward), verb == "cut")
        self.events.add("link", link.name, {"verb": verb, "toward": toward, **(changes or {})})

    def change_function(
        self, node: str, name: str, enabled: bool | None, options: dict[str, Any]
    ) -> None:
        """Switch a function of a middlebox, or set some of its options, and tell of it."""
        function = self.lab[node].function(name)
        if options:
            function.set(**options)
        if enabled is not None:
            (function.enable if enabled else function.disable)()
        what = {"function": name, "enabled": enabled, "options": options}
        self.events.add("function", node, what)

    def _note_cut(self, link: LabLink, directions: tuple[DirectionName, ...], cut: bool) -> None:
        for direction in directions:
            (self._cut.add if cut else self._cut.discard)((link.name, direction))

    def is_cut(self, link: LabLink, direction: DirectionName) -> bool:
        """Whether it was cut, by a verb or by its schedule, and not restored since."""
        return (link.name, direction) in self._cut

    def _tell_death(self, failure: TestbedError) -> None:
        self.events.add("death", self.record.name, {"reason": str(failure)})

    def _tell_schedule(self, link: LabLink) -> None:
        """Follow a schedule, whose emulator tells what it has done to those who ask."""
        told, began = 0, time.monotonic()
        due = sorted(change.at for change in link.planned.schedule)
        while told < len(due):
            if self.over.wait(max(_JOURNAL_SECONDS, began + due[told] - time.monotonic())):
                return
            try:
                new = link.events[told:]
            except TestbedError:  # of a lab that has failed or ended, which is told apart
                return
            for event in new:
                change = event.change
                if change.cut is not None:
                    self._note_cut(link, directions_of(change.direction), change.cut)
                what = msgspec.to_builtins(change) | {"error": event.error}
                self.events.add("schedule", link.name, what, event.time_ns)
            told += len(new)

    def end(self) -> None:
        """Take the lab down, once; raises what was wrong with it. The holder ends after that."""
        with self._ending:
            if self.over.is_set():
                return
            try:
                self.lab.stop()
            finally:
                self.events.add("end", self.record.name, {})
                self.events.close()
                self.over.set()
