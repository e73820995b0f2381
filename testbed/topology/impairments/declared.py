"""All impairments, in the order in which pages tell of them."""

from __future__ import annotations

from typing import Final

from testbed.topology.impairments.arrival import CORRUPT, DROP, DUPLICATE, LOSS
from testbed.topology.impairments.bottleneck import OVERHEAD, QUEUE, RATE
from testbed.topology.impairments.declaration import Impairment
from testbed.topology.impairments.propagation import DELAY, JITTER, REORDER
from testbed.topology.impairments.selection import selection

_OF_ALL: Final[tuple[Impairment, ...]] = (
    RATE,
    OVERHEAD,
    QUEUE,
    DELAY,
    JITTER,
    LOSS,
    DROP,
    DUPLICATE,
    REORDER,
    CORRUPT,
)
DECLARED: Final[tuple[Impairment, ...]] = (*_OF_ALL, selection(_OF_ALL))
