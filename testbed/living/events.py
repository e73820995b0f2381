"""What happens to a lab, kept in order for whoever listens, now or a little later."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, Literal, TypeAlias

import msgspec

#: Events that are kept for listeners who come back.
MOST_KEPT: Final = 1000

EventKind: TypeAlias = Literal["link", "schedule", "function", "death", "end"]


class LabEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that has happened.

    number: its place, counted from 1; time_ns: when, on the real-time clock, the one of captures;
    kind: `link` (set, cut or restored), `schedule` (a link changed by its schedule), `function` (of
    a middlebox, switched or set), `death` (something that the lab depends on), `end` (of the lab);
    about: the link, node or lab; what: the rest, by names that depend on the kind.
    """

    number: int
    time_ns: int
    kind: EventKind
    about: str
    what: dict[str, Any]


class EventLog:
    """The events of one lab, the last thousand of them. Safe between threads."""

    def __init__(self) -> None:
        self._kept: deque[LabEvent] = deque(maxlen=MOST_KEPT)
        self._changed = threading.Condition()
        self._number = 0
        self._closed = False

    @property
    def last(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._number

    def add(
        self, kind: EventKind, about: str, what: dict[str, Any], time_ns: int | None = None
    ) -> None:
        """Tell everybody. time_ns: when it happened, if not now."""
        with self._changed:
            self._number += 1
            self._kept.append(
                LabEvent(
                    number=self._number,
                    time_ns=time.time_ns() if time_ns is None else time_ns,
                    kind=kind,
                    about=about,
                    what=what,
                )
            )
            self._changed.notify_all()

    def close(self) -> None:
        """There are no more events: who listens has heard the last."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def after(self, number: int, silence: float) -> Iterator[LabEvent | None]:
        """The events after that one as they happen, and None for each `silence` seconds."""
        while True:
            with self._changed:
                new = [event for event in self._kept if event.number > number]
                if not new:
                    if self._closed:
                        return
                    self._changed.wait(silence)
                    new = [event for event in self._kept if event.number > number]
                    if not new and self._closed:
                        return
            if not new:
                yield None
            for event in new:
                number = event.number
                yield event
