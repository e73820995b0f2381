"""The impairments of a link's two directions, and what a scheduled change makes of them."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from testbed.topology.model import DirectionName, Impairments, ScheduledChange

BothDirections: TypeAlias = dict[DirectionName, Impairments]


def directions_of(direction: DirectionName | None) -> tuple[DirectionName, ...]:
    """The directions that are meant; None stands for both."""
    return ("forward", "reverse") if direction is None else (direction,)


def after(asked: BothDirections, change: ScheduledChange) -> BothDirections:
    """The impairments after a change; a field that does not exist or fit is a `ValueError`."""
    unknown = set(change.changes) - set(Impairments.__struct_fields__)
    if unknown:
        raise ValueError(f"there is no impairment {' or '.join(sorted(unknown))}")
    changed = {
        name: msgspec.convert({**msgspec.to_builtins(asked[name]), **change.changes}, Impairments)
        for name in directions_of(change.direction)
    }
    return {**asked, **changed}
