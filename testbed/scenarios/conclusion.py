"""What scenarios show below their table: one sentence that says what it means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from testbed.scenarios.result import Presentation, Result


def conclude(sentence: str, folder: Path) -> Presentation:
    """A presentation of one sentence and of where the files are."""
    return Presentation(
        lambda _: [Text(sentence)],
        {"captures": folder / "captures", "result": folder / "result.json"},
    )


def median_of(result: Result, name: str, **parameters: Any) -> float | None:
    """The median of a measurement in the one cell with these parameters, if it was run."""
    for cell in result.cells:
        if parameters.items() <= cell.parameters.items():
            return float(cell.medians[name])
    return None


def medians_of(result: Result, name: str, *cells: Mapping[str, Any]) -> list[float]:
    """The same for several cells; empty if one of them was not run."""
    found = [median_of(result, name, **cell) for cell in cells]
    return [] if None in found else [value for value in found if value is not None]
