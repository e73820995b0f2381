"""Columns for other programs: Arrow, and by it Parquet, pandas and polars.

What a segment does not have is null there: the value of an option that is not in it, or the IP
identification of IPv6.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from testbed.errors import TraceError

_INSTALL: Final = {
    "pyarrow": "pip install 'testbed[data]'",
    "pyarrow.parquet": "pip install 'testbed[data]'",
    "pandas": "pip install pandas",
    "polars": "pip install polars",
}


def library(name: str) -> Any:
    """A library that is needed for this alone. Raises TraceError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise TraceError(
            f"A table for other programs needs {name.partition('.')[0]}, which is not installed. "
            f"Install it: {_INSTALL[name]}"
        ) from None


def arrow_table(
    columns: Mapping[str, NDArray[Any]],
    missing: Mapping[str, NDArray[np.bool_]],
    edges: NDArray[np.uint32],
) -> Any:
    """A `pyarrow.Table` of the columns of a `SegmentTable`.

    missing: by column where there is no value. edges: of the SACK blocks, which become a column of
    lists, `sack`.
    """
    arrow = library("pyarrow")
    found = {}
    for name, column in columns.items():
        if name == "sack_first":
            counts = columns["sack_count"].astype(np.int64)
            found["sack"] = _lists(arrow, column, counts, edges)
        elif name != "sack_count":
            kind = arrow.timestamp("ns", tz="UTC") if name == "time" else None
            found[name] = arrow.array(column, kind, mask=missing.get(name))
    return arrow.table(found)


def rows_table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """A `pyarrow.Table` of rows of plain data."""
    return library("pyarrow").Table.from_pylist(list(rows))


def _lists(
    arrow: Any, first: NDArray[np.uint32], counts: NDArray[np.int64], edges: NDArray[np.uint32]
) -> Any:
    """A list of (left, right) for each row; null where it is empty."""
    ends = np.cumsum(counts)
    starts = ends - counts
    rows = np.arange(counts.sum()) + np.repeat(first - starts, counts)
    blocks = edges[rows]
    pairs = [arrow.array(np.ascontiguousarray(blocks[:, side])) for side in (0, 1)]
    offsets = arrow.array(np.append(starts, counts.sum()).astype(np.int32))
    return arrow.ListArray.from_arrays(
        offsets,
        arrow.StructArray.from_arrays(pairs, names=["left", "right"]),
        mask=arrow.array(counts == 0),
    )


def write_parquet(path: Path, table: Any) -> None:
    """Write an Arrow table to a Parquet file, which appears whole or not at all."""
    parquet = library("pyarrow.parquet")
    part = path.with_name(f"{path.name}.part")
    try:
        try:
            parquet.write_table(table, part, compression="zstd")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise TraceError(f"{path}: cannot be written: {error.strerror or error}.") from error
