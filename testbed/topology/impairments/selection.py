"""Impairments for a part of the packets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from testbed.topology.impairments.declaration import Impairment
from testbed.topology.model import Impairments, Match
from testbed.topology.problems import Path, Problem
from testbed.topology.values import scalars
from testbed.topology.values.shapes import Items, Key, OneOrMore, Record

_MOST_RULES: Final = 100


def selection(others: tuple[Impairment, ...]) -> Impairment:
    """The declaration of `match`, whose rules have all other impairments."""

    def problems(path: Path, given: Impairments) -> Iterator[Problem]:
        for index, rule in enumerate(given.match):
            where = (*path, index)
            if rule.impairments.match:
                yield Problem((*where, "match"), "a rule has no rules of its own")
            if rule.port is not None and not 0 < rule.port < 1 << 16:
                yield Problem((*where, "port"), f"expected 1 to 65535, got {rule.port!r}")
            if rule.port is not None and rule.protocol == "icmp":
                yield Problem((*where, "port"), "ICMP has no ports")
            for declared in others:
                yield from declared.problems((*where, declared.name), rule.impairments)

    record = Record(
        "match",
        "Impairments for the packets that this is about, as if they came over a link of their own "
        "before this one. The first rule that fits holds. Userspace emulator only.",
        (
            Key("to", OneOrMore(scalars.PEER), "Destination: nodes or prefixes.", default="any"),
            Key("from", OneOrMore(scalars.PEER), "Source: nodes or prefixes.", default="any"),
            Key("protocol", scalars.PROTOCOL, "Which one.", default="any"),
            Key("port", scalars.PORT, "Of the source or of the destination.", default="any"),
            *(one.key for one in others),
        ),
    )
    return Impairment(
        key=Key("match", Items(record, most=_MOST_RULES), "Impairments for some packets only."),
        fields={"match": (Match,)},
        problems=problems,
    )
