"""Types of options that many functions have."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from testbed.topology.model import Seconds
from testbed.wire.packet import INSIDE, OUTSIDE, Side

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Duration: TypeAlias = Annotated[Seconds, msgspec.Meta(gt=0, extra={"unit": "duration"})]
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
