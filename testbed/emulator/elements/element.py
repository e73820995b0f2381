"""The interface that every impairment has.

A direction of a link is a chain of elements. Each takes a frame at a time and gives it on to the
next by `emit(frame, time)`, with the time at which it has gone through: at once, later (a delay
just adds to the time), more than once, or never. Times are nanoseconds of the monotonic clock
and may lie in the future: what happens to a frame is computed, not waited for. The chain ends in
`Departures`, where frames wait until they are due.

An element sees frames in the order of their times. One that must wait for what comes next (a
queue does: who leaves when depends on what is set meanwhile) keeps frames and says in `wake` when
it wants to be advanced.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, TypeVar

from testbed.discovery import modules_of
from testbed.emulator.counters import Tally
from testbed.kernel.timer import NEVER, Nanoseconds
from testbed.topology.model import Impairments

Emit: TypeAlias = Callable[[bytes, Nanoseconds], None]
EmitAll: TypeAlias = Callable[[Sequence[bytes], Sequence[Nanoseconds]], None]


E = TypeVar("E", bound="Element")


class Leaving(Protocol):
    """Frames that wait until they are due."""

    def __len__(self) -> int: ...

    def pop_due(self, now: Nanoseconds, most: int) -> list[tuple[Nanoseconds, bytes]]:
        """Take out up to `most` frames that are due by `now`, with the times they were due."""


class Branch(Protocol):
    """A chain that an element has for itself."""

    @property
    def departures(self) -> Leaving:
        """Where frames are at its end."""

    @property
    def in_force(self) -> Impairments: ...

    @property
    def wake(self) -> Nanoseconds: ...

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None: ...

    def take(self, frame: bytes, time: Nanoseconds) -> None: ...

    def advance(self, now: Nanoseconds) -> None: ...

    def waiting(self, now: Nanoseconds) -> int: ...


class Surroundings(NamedTuple):
    """What a pipeline gives to each of its elements.

    tally: counts what elements do to frames.
    generator: a generator of random numbers for each name, the same in every run.
    depart: leads past all that comes later, to the departures.
    branch: makes another chain with the same tally, by a name for its random numbers.
    """

    tally: Tally
    generator: Callable[[str], random.Random]
    depart: Emit
    branch: Callable[[str], Branch]


class Element:
    """One impairment of one direction.

    `emit`, and `emit_all` for frames that go on in one go, are set by the pipeline. `tally`
    counts what the element does to frames.
    """

    #: Where in the chain frames meet it, see `element`.
    position: ClassVar[int]

    #: Whether the element keeps frames, so that `wake` and `advance` matter.
    holds = False

    def __init__(self, surroundings: Surroundings) -> None:
        self.emit: Emit = _not_connected
        self.emit_all: EmitAll = _not_connected
        self.tally = surroundings.tally
        self.wake: Nanoseconds = NEVER
        #: The least time that a frame needs from here to its departure, set by the pipeline.
        self.downstream: Nanoseconds = 0

    @property
    def neutral(self) -> bool:
        """Whether frames may go round this element, because it would leave them as they are."""
        raise NotImplementedError

    def least_delay(self, downstream: Nanoseconds) -> Nanoseconds:
        """The least time from here to departure, given that from the next element on."""
        return downstream

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        """Take over what `impairments` says about this element, for frames from `now` on.

        round_trip: sum of the delays of both directions of the link, in seconds. The pipeline
        advances the element to `now` before and after.
        """
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """What is in force, as fields of `Impairments`."""
        raise NotImplementedError

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        """Deal with a frame that gets here at `time`."""
        raise NotImplementedError

    def take_all(self, frames: Sequence[bytes], times: Sequence[Nanoseconds]) -> None:
        """Deal with frames that come in one go, each at its time, in order."""
        take = self.take
        for frame, time in zip(frames, times, strict=True):
            take(frame, time)

    def advance(self, now: Nanoseconds) -> None:
        """Emit what leaves by `now`; only called on elements that hold frames."""


_REGISTERED: list[type[Element]] = []


def element(position: int) -> Callable[[type[E]], type[E]]:
    """Put a class into the chain of every direction, before those of higher positions."""

    def register(kind: type[E]) -> type[E]:
        kind.position = position
        _REGISTERED.append(kind)
        return kind

    return register


@cache
def chain() -> tuple[type[Element], ...]:
    """The elements of all modules of this package, in the order in which frames meet them."""
    modules_of("testbed.emulator.elements")
    return tuple(sorted(_REGISTERED, key=lambda kind: kind.position))


def _not_connected(*_: object) -> None:
    raise AssertionError("an element was used outside a pipeline")


def seeded(seed: int, link: str, direction: str, element: str) -> random.Random:
    """A generator of its own for each element, so that no other one shifts its sequence.

    The same arguments give the same sequence in every process and on every machine.
    """
    return random.Random(f"{seed}/{link}/{direction}/{element}")
