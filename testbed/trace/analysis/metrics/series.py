"""A quantity over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TimeSeries:
    """Values at moments: `time` in ns since the epoch, and `value` in the unit of what it is."""

    time: NDArray[np.int64]
    value: NDArray[Any]

    def __len__(self) -> int:
        return len(self.time)

    def thinned(self, most: int) -> TimeSeries:
        """At most so many of its points: in each stretch the largest value."""
        if len(self) <= most:
            return self
        edges = np.linspace(0, len(self), most + 1).astype(np.intp)[:-1]
        index = np.arange(len(self))
        tops = np.maximum.reduceat(self.value, edges)
        stretch = np.searchsorted(edges, index, side="right") - 1
        is_top = np.flatnonzero(self.value == tops[stretch])
        first = is_top[np.unique(stretch[is_top], return_index=True)[1]]
        return TimeSeries(self.time[first], self.value[first])
