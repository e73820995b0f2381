"""Which processor each helper process of a lab has for its own, decided in one place."""

from __future__ import annotations

from collections.abc import Collection

import msgspec


class Placement(msgspec.Struct, frozen=True):
    """The processors of one helper process.

    cpu: where the process runs.
    receivers: the processors that take in what it sends, in ascending order.
    """

    cpu: int
    receivers: tuple[int, ...]


def in_words(placement: Placement | None) -> str:
    """Which processors share the work of a process under load, or why none do."""
    if placement is None:
        return "none: no processor would be left for the receivers"
    receivers = ", ".join(map(str, placement.receivers))
    return f"under load, from processor {placement.cpu} to {receivers}"


def placements(cpus: Collection[int], processes: int, first: int = 0) -> list[Placement | None]:
    """A placement for each of so many processes; None where they run wherever there is room.

    cpus: the processors of this machine.
    first: the one that is dealt out first, so that labs side by side do not all begin with the
        same one.

    The processors that are left take in what the processes send. Where none would be left there
    are no placements: real-time processes would only hold up the receivers.
    """
    if processes >= len(cpus):
        return [None] * processes
    ordered = sorted(cpus)
    start = first % len(ordered)
    turned = ordered[start:] + ordered[:start]
    receivers = tuple(sorted(turned[processes:]))
    return [Placement(cpu, receivers) for cpu in turned[:processes]]
