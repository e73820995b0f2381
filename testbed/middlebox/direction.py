"""Which way a function looks: at what comes from outside, from inside, or both."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from testbed.wire.packet import INSIDE, OUTSIDE, Side

Direction: TypeAlias = Literal["both", "inward", "outward"]
"""`inward` are packets from the outside, `outward` those from the inside."""

_COME_FROM: Final = {
    "both": frozenset({OUTSIDE, INSIDE}),
    "inward": frozenset({OUTSIDE}),
    "outward": frozenset({INSIDE}),
}


def sides_of(direction: Direction) -> frozenset[Side]:
    """The sides that packets of this direction come from."""
    return _COME_FROM[direction]
