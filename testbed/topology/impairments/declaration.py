"""What is declared of each impairment, and what several declarations share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from testbed.topology.model import Impairments
from testbed.topology.problems import Path, Problem
from testbed.topology.units import format_duration
from testbed.topology.values.scalars import PROBABILITY
from testbed.topology.values.shapes import Key

Problems: TypeAlias = Callable[[Path, Impairments], Iterator[Problem]]

MAX_DELAY: Final = 3600.0


class Impairment(msgspec.Struct, frozen=True, kw_only=True):
    """One impairment.

    key: how it is written in YAML, and its line of the reference.
    fields: of `Impairments`, each with the types of its values. A value that is read or given goes
        to the field that takes its type, and the others get their defaults. Where the default is
        None, so may the value be, which takes the impairment away.
    problems: what no link can do, given the path of the key and all impairments of a direction.
    number: what a bare number in base units means to a running link; None where it is read as in
        YAML.
    """

    key: Key
    fields: Mapping[str, tuple[type, ...]]
    problems: Problems
    number: Callable[[float], object] | None = None

    @property
    def name(self) -> str:
        return self.key.name


CORRELATION: Final = Key(
    "correlation",
    PROBABILITY,
    "How much of the last random number each one keeps.",
    default="`0`",
)


def probability(what: str, required: bool = True, default: str = "") -> Key:
    """The key of a probability."""
    return Key("probability", PROBABILITY, what, required=required, default=default)


def seconds(value: float) -> str:
    """A duration as messages show it, impossible ones too."""
    return format_duration(value) if value > 0 else repr(value)


def share_problems(path: Path, given: msgspec.Struct | None, *others: str) -> Iterator[Problem]:
    """Numbers that are no probabilities; all that is drawn by chance has them, but for `others`."""
    for field in given.__struct_fields__ if given is not None else ():
        value = getattr(given, field)
        if field not in others and isinstance(value, int | float) and not 0 <= value <= 1:
            yield Problem((*path, field), f"expected 0 to 1, got {value!r}")
