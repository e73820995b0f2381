"""The situations there are, by the problem that they are about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import msgspec

from testbed.conformance.situations.stage import Stage
from testbed.discovery import modules_of

Drive = Callable[[Stage], None]


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to the two ends.

    drive: does it. strips_mss: whether the path takes the peer's MSS option away.
    needs_own_peer: whether only the testbed's TCP is a peer that brings the situation about.
    sack: whether both permit it.
    scale: by how much its time-outs are shortened by the real clock.
    """

    problem: str
    drive: Drive
    strips_mss: bool = False
    needs_own_peer: bool = False
    sack: bool = True
    scale: int = 1

    @property
    def summary(self) -> str:
        """What happens, in a sentence."""
        return (self.drive.__doc__ or "").strip().partition("\n\n")[0].replace("\n    ", " ")


_registered: dict[str, Situation] = {}


def situation(problem: str, **settings: Any) -> Callable[[Drive], Drive]:
    """Function decorator: what brings a problem to light; settings: see `Situation`."""

    def register(drive: Drive) -> Drive:
        _registered[problem] = Situation(problem=problem, drive=drive, **settings)
        return drive

    return register


def situations() -> Mapping[str, Situation]:
    """All of them, by the alphabet."""
    _discover()
    return dict(sorted(_registered.items()))


@cache
def _discover() -> None:
    modules_of("testbed.conformance.situations.problems")
