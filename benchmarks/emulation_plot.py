"""The figure of emulation.py: how exact the delay is, and how exact the rate."""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib

matplotlib.use("svg")  # draws into files; there may be no screen

from emulation_measure import quantile
from emulation_result import Results
from matplotlib import pyplot
from matplotlib.axes import Axes

SHARES = [number / 100 for number in range(1, 101)]
LEAST_US = 1.0
DELAY, GOODPUT = "delay error at ", "TCP goodput at "


def plot(results: Results, path: Path) -> None:
    """Write it; the ending of the file says in what format."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "emulation"}):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
        delays(left, results)
        rates(right, results)
        explained = left if left.lines else right
        if explained.lines:
            figure.legend(
                *explained.get_legend_handles_labels(), loc="outside lower center", ncols=3
            )
        if results.settings["quick"] or not results.idle:
            figure.suptitle("not to be cited: quick, or the machine was not idle", color="tab:red")
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, metadata=metadata)
        pyplot.close(figure)


def delays(axes: Axes, results: Results) -> None:
    """The share of packets whose delay was off by no more than so much, repetitions together."""
    for emulator, colour in colours(results):
        wanted = [name for name in results.samples.get(emulator, {}) if name.startswith(DELAY)]
        for name, style in zip(wanted, ("-", "--"), strict=False):
            at = name.removeprefix(DELAY).partition(",")[0]
            sizes = quantiles(results.samples[emulator][name])
            axes.step(sizes, SHARES, style, color=colour, label=f"{emulator}, {at}", where="post")
    axes.set(
        xscale="log",
        xlabel="error of the delay (us)",
        ylabel="share of packets",
        title="Delay of spaced packets",
        ylim=(0, 1.01),
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)


def quantiles(repetitions: list[list[float]]) -> list[float]:
    """Sizes of errors in us, at `SHARES`."""
    errors = [max(LEAST_US, abs(error)) for each in repetitions for error in each]
    return [quantile(errors, share) for share in SHARES]


def rates(axes: Axes, results: Results) -> None:
    """Medians, from the smallest to the largest repetition."""
    for emulator, colour in colours(results):
        found = {
            float(name.removeprefix(GOODPUT).partition(" ")[0]): values
            for name, values in results.figures[emulator].items()
            if name.startswith(GOODPUT)
        }
        if not found:
            continue
        middles = [statistics.median(values) for values in found.values()]
        below = [
            middle - min(values) for middle, values in zip(middles, found.values(), strict=True)
        ]
        above = [
            max(values) - middle for middle, values in zip(middles, found.values(), strict=True)
        ]
        axes.errorbar(
            list(found), middles, [below, above], fmt="o-", color=colour, label=emulator, capsize=3
        )
    axes.axhline(100, color="grey", linewidth=0.8)
    axes.set(
        xscale="log",
        xlabel="rate (Mbit/s)",
        ylabel="goodput (% of what fits)",
        title="One TCP connection under a rate",
        ylim=(0, 105),
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)


def colours(results: Results) -> list[tuple[str, str]]:
    """Each emulator with its own."""
    return [(emulator, f"C{number}") for number, emulator in enumerate(results.figures)]
