"""Frames that do not arrive.

All of it is decided when a frame comes, before the queue, as netem does (net/sched/sch_netem.c,
netem_enqueue): what is lost depends on the sequence of frames alone and never on their timing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from testbed.emulator.elements.element import Element, Surroundings, element
from testbed.kernel.timer import Nanoseconds
from testbed.topology.model import FourState, GilbertElliott, Impairments

#: The lowest bit of a destination address (IEEE 802.3, section 3.2.3).
_GROUP_BIT = 1


@element(10)
class Cut(Element):
    """A cable pulled out: every frame that comes is dropped, until it is put back.

    What had come before is not called back: it arrives.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self.engaged = False

    @property
    def neutral(self) -> bool:
        return not self.engaged

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        """A cut is no impairment: it stays when impairments change."""

    def settings(self) -> dict[str, Any]:
        return {}

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        self.tally.drop("cut", frame, time)


@element(40)
class Loss(Element):
    """Losses by chance: independent of each other, or by a model that makes bursts.

    Multicast has a chain of random numbers of its own: when the kernel announces its groups is
    not for the traffic of a node to decide, and must not shift what that loses.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._draws = tuple(
            surroundings.generator(name).random for name in ("loss", "loss of multicast")
        )
        self._probability = 0.0
        self._model: GilbertElliott | FourState | None = None
        self._chains: tuple[Callable[[], bool], ...] = ()
        self._choose()

    @property
    def neutral(self) -> bool:
        return self._probability == 0 and self._model is None

    def configure(self, impairments: Impairments, round_trip: float, now: Nanoseconds) -> None:
        same = impairments.loss_model == self._model  # goes on in the state that it is in
        if same and impairments.loss == self._probability:
            return
        self._probability = impairments.loss
        self._model = impairments.loss_model
        if not same or self._model is None:
            self._choose()

    def _choose(self) -> None:
        self._chains = tuple(_chain(self._model, self._probability, draw) for draw in self._draws)

    def settings(self) -> dict[str, Any]:
        return {"loss": self._probability, "loss_model": self._model}

    def take(self, frame: bytes, time: Nanoseconds) -> None:
        if self._chains[frame[0] & _GROUP_BIT]():
            self.tally.drop("loss", frame, time)
        else:
            self.emit(frame, time)


def _chain(
    model: GilbertElliott | FourState | None, probability: float, draw: Callable[[], float]
) -> Callable[[], bool]:
    """Each call tells whether the next frame is lost."""
    match model:
        case GilbertElliott():
            return GilbertElliottChain(model, draw)
        case FourState():
            return FourStateChain(model, draw)
        case None:
            return lambda: draw() < probability


class GilbertElliottChain:
    """Good and bad times; a frame's fate is drawn in the state before the transition that it
    causes (sch_netem.c, loss_gilb_ell). Each call tells whether the next frame is lost."""

    def __init__(self, model: GilbertElliott, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._worsens = model.p
        self._mends = 1 - model.p if model.r is None else model.r
        self._losses = (model.good_loss, model.bad_loss)
        self._bad = False

    def __call__(self) -> bool:
        loss = self._losses[self._bad]
        if self._draw() < (self._mends if self._bad else self._worsens):
            self._bad = not self._bad
        return self._draw() < loss


class FourStateChain:
    """Each call tells whether the next frame is lost (sch_netem.c, loss_4state).

    The first frame is drawn from state 1.
    """

    _LOSING = (3, 4)

    def __init__(self, model: FourState, draw: Callable[[], float]) -> None:
        p31 = 1 - model.p13 if model.p31 is None else model.p31
        self._draw = draw
        self._state = 1
        #: For each state, where it goes from there with which probability; else it stays.
        self._moves = {
            1: ((4, model.p14), (3, model.p13)),
            2: ((3, model.p23),),
            3: ((2, model.p32), (1, p31)),
            4: ((1, 1.0),),
        }

    def __call__(self) -> bool:
        number = self._draw()
        for state, probability in self._moves[self._state]:
            if number < probability:
                self._state = state
                break
            number -= probability
        return self._state in self._LOSING
