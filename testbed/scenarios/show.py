"""How a scenario's outcome looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from testbed.scenarios.parameters import KERNEL
from testbed.scenarios.registry import Scenario
from testbed.scenarios.result import Cell, Result
from testbed.scenarios.runner import Outcome


def render(scenario: Scenario, outcome: Outcome, width: int) -> Iterator[RenderableType]:
    """The table of all cells, what the scenario adds to it, and where the files are."""
    yield matrix(scenario, outcome)
    if outcome.presentation is not None:
        for block in outcome.presentation.blocks(width):
            yield Text()
            yield block
        yield Text()
        for what, path in outcome.presentation.files.items():
            yield Text.assemble((f"{what:<9}", "bold"), str(path))
    yield Text.assemble(("clock    ", "bold"), _clock(outcome.result))
    if not outcome.result.trustworthy:
        yield Text(_distrust(outcome), "bold yellow")
    yield Text.assemble(("verdict  ", "bold"), _conclusion(outcome))


def matrix(scenario: Scenario, outcome: Outcome) -> Table:
    """One row for each cell: its parameters, the medians of its runs, and its verdict."""
    cells = outcome.result.cells
    headings = dict(scenario.columns) or {
        name: name.replace("_", " ") for name in (*cells[0].parameters, *cells[0].medians)
    }
    known = {name for cell in cells for name in (*cell.parameters, *cell.medians)}
    headings = {name: heading for name, heading in headings.items() if name in known}
    runs = max(cell.runs for cell in cells)
    table = Table(
        title=f"{scenario.name}: medians of {runs} run{'s' if runs > 1 else ''}",
        title_justify="left",
        title_style="bold",
    )
    if KERNEL in cells[0].parameters:
        headings = {KERNEL: "kernel", **headings}
    for name, heading in headings.items():
        table.add_column(heading, justify="right" if name in cells[0].medians else "left")
    table.add_column("verdict")
    for cell in cells:
        shown = [_shown(scenario.labels.get(name, {}), name, cell) for name in headings]
        table.add_row(*shown, _verdict(cell), style=None if cell.as_expected else "bold")
    return table


def _shown(labels: Mapping[Any, str], name: str, cell: Cell) -> str:
    if name in cell.parameters:
        value = cell.parameters[name]
        return labels.get(value, str(value))
    found = cell.medians.get(name, "")
    if isinstance(found, str):
        return found
    return f"{found:.1f}" if isinstance(found, float) and found % 1 else f"{found:.0f}"


def _verdict(cell: Cell) -> Text:
    if cell.as_expected:
        verdict = Text(f"✓ {cell.verdict}", "green")
    else:
        verdict = Text(f"✗ {cell.verdict}, expected: {cell.expected}", "red")
    if not cell.trustworthy:
        verdict.append(" (not trustworthy)", "bold yellow")
    return verdict


def _distrust(outcome: Outcome) -> str:
    late = [run for run in outcome.result.runs if not run.trustworthy]
    worst = max(run.emulator["late_us_p99"] for run in late) / 1000
    return (
        f"Not trustworthy: in {len(late)} of {len(outcome.result.runs)} runs the link emulator "
        f"handed packets over later than `max_lateness` allows (99th percentile up to "
        f"{worst:.1f} ms). Run it again on a less busy machine."
    )


def _clock(result: Result) -> str:
    kernels = result.asked.kernels if result.asked else {}
    linux = ", ".join(kernels) if len(kernels) > 1 else result.environment.kernel
    seed = result.asked.seed if result.asked else None
    told = f"{result.environment.clock}: Linux {linux}"
    return told if seed is None else f"{told}, seed {seed}"


def _conclusion(outcome: Outcome) -> Text:
    wrong = [cell for cell in outcome.result.cells if not cell.as_expected]
    if not wrong:
        count = len(outcome.result.cells)
        return Text(f"all {count} cells as expected" if count > 1 else "as expected", "green")
    return Text(f"{len(wrong)} of {len(outcome.result.cells)} cells are not as expected", "red")
