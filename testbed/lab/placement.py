"""Which processor each helper process of a lab has for its own, decided in one place."""

from __future__ import annotations

from collections.abc import Collection

import msgspec


class Place(msgspec.Struct, frozen=True):
    """cpu: where the process runs. others: those that take in what it sends."""

    cpu: int
    others: frozenset[int]


def in_words(place: Place | None) -> str:
    """Which processors share the work of a process under load, or why none do."""
    if place is None:
        return "none: no processor would be left for the receivers"
    others = ", ".join(map(str, sorted(place.others)))
    return f"under load, from processor {place.cpu} to {others}"


def places(cpus: Collection[int], processes: int, first: int = 0) -> list[Place | None]:
    """A place for each of so many processes; None where they run wherever there is room.

    cpus: those there are. first: which of them is dealt out first, so that labs side by side do
    not all begin with the same one. Those that are left take in what the processes send. Where
    none would be left there are no places: processes in real time and the work of receivers only
    get into each other's way then.
    """
    if processes >= len(cpus):
        return [None] * processes
    ordered = sorted(cpus)
    start = first % len(ordered)
    turned = ordered[start:] + ordered[:start]
    others = frozenset(turned[processes:])
    return [Place(cpu, others) for cpu in turned[:processes]]
