"""The checks there are: found by name, added by decorator or entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import msgspec

from testbed.conformance.finding import Ruling
from testbed.conformance.party import Party
from testbed.discovery import discover
from testbed.errors import ConformanceError
from testbed.wording import suggestion

ENTRY_POINTS = "testbed.checks"

Question = Callable[[Party], Ruling]


class Check(msgspec.Struct, frozen=True):
    """One problem of RFC 2525 as a question to a trace; section: where the RFC describes it."""

    problem: str
    section: str
    ask: Question


_registered: dict[str, Check] = {}


def check(problem: str, *, section: str) -> Callable[[Question], Question]:
    """Function decorator: make a check known as `problem`.

    Raises ValueError when another one has that name.
    """

    def register(ask: Question) -> Question:
        known = _registered.get(problem)
        if known is not None and known.ask.__qualname__ != ask.__qualname__:
            raise ValueError(f"check '{problem}' is {known.ask.__qualname__} already")
        _registered[problem] = Check(problem, section, ask)
        return ask

    return register


def all_checks() -> Mapping[str, Check]:
    """Every check by name, in the order of the sections."""
    _discover()
    return dict(sorted(_registered.items(), key=lambda item: _order(item[1].section)))


def find(problem: str) -> Check:
    """The check of a problem. Raises ConformanceError that names the nearest one."""
    known = all_checks()
    if problem not in known:
        raise ConformanceError(
            f"There is no check '{problem}'; known are {', '.join(known)}"
            f"{suggestion(problem, known)}"
        )
    return known[problem]


def _order(section: str) -> tuple[int, ...]:
    return tuple(int(part) for part in section.split("."))


@cache
def _discover() -> None:
    discover("testbed.conformance.checks", ENTRY_POINTS, "check", ConformanceError)
