"""Figures drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def dot_plot(
    groups: Mapping[str, Sequence[float]], path: Path, *, title: str, quantity: str
) -> None:
    """Every measured value as a dot, one row for each group, on a logarithmic axis.

    groups: values (above 0) by name, from top to bottom; the suffix of `path` is the format.
    """
    from matplotlib.figure import Figure  # takes most of a second, which only figures need

    figure = Figure(figsize=(8, 0.45 * len(groups) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    for row, values in enumerate(groups.values()):
        axes.plot(values, [row] * len(values), "o", color="#1f5fa8", alpha=0.55, markersize=7)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlabel(quantity)
    axes.set_title(title, loc="left", fontsize="medium")
    axes.grid(axis="x", which="both", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path)
