"""One direction of a link: its impairments as a chain of elements, and what they did."""

from __future__ import annotations

import functools
from typing import Any

from testbed.emulator.counters import DirectionCounters, Tally
from testbed.emulator.elements.bottleneck import Bottleneck
from testbed.emulator.elements.departures import Departures
from testbed.emulator.elements.element import Emit, EmitAll, Surroundings, chain, seeded
from testbed.emulator.elements.loss import Cut
from testbed.emulator.elements.selective import Selective
from testbed.emulator.limits import refuse_impossible
from testbed.kernel.timer import Nanoseconds
from testbed.topology.model import Impairments

# All modules now: a process that carries frames has no privileges later.
_CHAIN = chain()


class Chain:
    """cut -> match -> script -> duplication -> loss -> corruption -> queue and rate -> reordering
    -> delay -> departures.

    `take(frame, time)` puts a frame in, `take_all(frames, times)` several. Elements that would
    leave frames as they are stay out of the chain, and come in with their state when impairments
    change. Up to the queue, the order is netem's: what chance decides depends on the sequence of
    frames and not on their timing.
    """

    def __init__(self, seed: int, link: str, direction: str, tally: Tally | None = None) -> None:
        """tally: of another chain, of which this one is a part."""
        self.tally = Tally() if tally is None else tally
        self.departures = Departures()
        surroundings = Surroundings(
            self.tally,
            functools.partial(seeded, seed, link, direction),
            self.departures.push,
            lambda name: Chain(seed, link, f"{direction}/{name}", self.tally),
        )
        self._elements = tuple(kind(surroundings) for kind in _CHAIN)
        (self._cut,) = (one for one in self._elements if isinstance(one, Cut))
        (self._bottleneck,) = (one for one in self._elements if isinstance(one, Bottleneck))
        (self._selective,) = (one for one in self._elements if isinstance(one, Selective))
        self._connect()

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        """Let `impairments` hold for frames from `now` on; see `Element.configure`.

        Raises `ValueError` for what cannot be, having changed nothing.
        """
        refuse_impossible(impairments)
        self.advance(now)
        for element in self._elements:
            element.configure(impairments, round_trip, now)
        self._connect()
        self.advance(now)

    def cut(self, engaged: bool) -> None:
        """Lose what enters from now on, or no longer."""
        self._cut.engaged = engaged
        self._connect()

    @property
    def in_force(self) -> Impairments:
        """What the elements do at present, read from them; delays are whole nanoseconds."""
        settings: dict[str, Any] = {}
        for element in self._elements:
            settings.update(element.settings())
        return Impairments(**settings)

    @property
    def wake(self) -> Nanoseconds:
        """When `advance` must be called next, or a frame departs."""
        wake = self.departures.next_due
        for element in self._holding:
            if element.wake < wake:
                wake = element.wake
        return wake

    def advance(self, now: Nanoseconds) -> None:
        """Let everything that leaves an element by `now` go on to the next."""
        for element in self._holding:
            element.advance(now)

    def waiting(self, now: Nanoseconds) -> int:
        """Packets in the queue, or one of the queues, at `now`."""
        self.advance(now)
        return self._bottleneck.waiting + self._selective.waiting

    def counters(self, now: Nanoseconds) -> DirectionCounters:
        """The numbers as of `now`."""
        waiting = self.waiting(now)
        tally = self.tally
        return DirectionCounters(
            packets_in=tally.packets_in,
            bytes_in=tally.bytes_in,
            packets_out=tally.packets_out,
            bytes_out=tally.bytes_out,
            dropped=dict(tally.dropped),
            duplicated=tally.duplicated,
            reordered=tally.reordered,
            corrupted=tally.corrupted,
            marked=tally.marked,
            waiting=waiting,
            in_flight=len(self.departures) + self._selective.in_flight,
            queue_high_water=tally.queue_high_water,
        )

    def _connect(self) -> None:
        """Chain the elements up from the end; neutral ones lead into the chain but not from it."""
        emit: Emit = self.departures.push
        emit_all: EmitAll = self.departures.push_all
        downstream = 0
        for element in reversed(self._elements):
            element.emit, element.emit_all = emit, emit_all
            element.downstream = downstream
            if not element.neutral:
                emit, emit_all = element.take, element.take_all
                downstream = element.least_delay(downstream)
        self.take, self.take_all = emit, emit_all
        # A queue that is no longer needed may still hold frames, so it is looked after for good.
        self._holding = tuple(element for element in self._elements if element.holds)
