"""Plots for the terminal, of braille dots: two columns and four rows of them in each character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

_BITS: Final = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)
_EMPTY: Final = 0x2800


def braille_plot(
    curves: Sequence[tuple[Any, Any]], *, title: str, width: int = 72, height: int = 12
) -> str:
    """Points (x, y) as dots, with the largest and smallest values beside them; no colour.

    curves: arrays of x (seconds) and y; width, height: of the area of the dots, in characters.
    """
    points = [(np.asarray(x, float), np.asarray(y, float)) for x, y in curves if len(x)]
    if not points:
        return f"{title}: nothing to show"
    xs, ys = np.concatenate([p[0] for p in points]), np.concatenate([p[1] for p in points])
    left, right = float(xs.min()), float(xs.max())
    low, high = min(0.0, float(ys.min())), float(ys.max())
    column = _scaled(xs, left, right, width * 2)
    row = height * 4 - 1 - _scaled(ys, low, high, height * 4)
    cells = np.zeros((height, width), np.uint8)
    np.bitwise_or.at(cells, (row // 4, column // 2), _BITS[row % 4, column % 2])
    labels = [""] * height
    labels[0], labels[-1] = _number(high), _number(low)
    margin = max(map(len, labels))
    lines = [title]
    for label, line in zip(labels, cells.tolist(), strict=True):
        dots = "".join(chr(_EMPTY + cell) for cell in line)
        lines.append(f"{label:>{margin}} ┤{dots}")
    end = f"{right:.3f} s"
    begin = f"{left:.3f} s".ljust(max(0, width - len(end)))
    lines.append(f"{'':{margin}} └{begin}{end}")
    return "\n".join(lines)


def _scaled(values: Any, low: float, high: float, cells: int) -> Any:
    span = high - low or 1.0
    return np.clip(((values - low) / span * (cells - 1)).round().astype(int), 0, cells - 1)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:,.3f}"
