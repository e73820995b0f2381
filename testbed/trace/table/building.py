"""A table that is put together from the parts of a file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.trace.table.decoding import Decoded
from testbed.trace.table.segment_table import DTYPES, SegmentTable

_DECODED = [name for name in DTYPES if name not in ("connection", "outward", "sack_first")]


class TableBuilder:
    """Collects what was decoded; memory is what the table takes, and one column more."""

    def __init__(self) -> None:
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _DECODED}
        self._edges: list[NDArray[np.uint32]] = [np.zeros((0, 2), np.uint32)]
        self._flows: list[NDArray[np.uint32]] = []

    def add(self, decoded: Decoded) -> None:
        """Append the segments of further frames."""
        for name, parts in self._parts.items():
            parts.append(np.ascontiguousarray(decoded.columns[name], DTYPES[name]))
        self._edges.append(decoded.sack_edges)
        self._flows.append(decoded.flow.astype(np.uint32))

    def flows(self) -> NDArray[np.uint32]:
        """The flow of each row, by its number; once."""
        return _joined(self._flows, "u4")

    def table(self, connection: NDArray[np.uint32], outward: NDArray[np.bool_]) -> SegmentTable:
        """The table; once."""
        columns = {name: _joined(parts, DTYPES[name]) for name, parts in self._parts.items()}
        counts = columns["sack_count"].astype(np.uint32)
        first: NDArray[np.uint32] = np.cumsum(counts, dtype=np.uint32) - counts
        return SegmentTable(
            **columns,
            connection=connection,
            outward=outward,
            sack_first=first,
            sack_edges=np.concatenate(self._edges),
        )

    def column(self, name: str) -> NDArray[Any]:
        """One column so far."""
        self._parts[name] = [_joined(self._parts[name], DTYPES[name])]
        return self._parts[name][0]


def _joined(parts: list[NDArray[Any]], dtype: str) -> NDArray[Any]:
    """All parts in one array; they are given up."""
    whole = parts[0] if len(parts) == 1 else np.concatenate([*parts, np.zeros(0, dtype)])
    parts.clear()
    return whole
