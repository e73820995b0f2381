"""Scenarios: each one decorated function, found by name or through the topology that names it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from testbed.discovery import discover
from testbed.errors import ScenarioError
from testbed.loading import find_topology, load, topology_path
from testbed.scenarios.judgement import Judgement, Measurements
from testbed.scenarios.parameters import Parameter, parameters_of
from testbed.scenarios.presentation import Presentation
from testbed.scenarios.result import Result
from testbed.topology import kinds
from testbed.topology.model import Topology
from testbed.wording import suggestion

ENTRY_POINTS = "testbed.scenarios"

Run = Callable[..., Measurements]
Judge = Callable[[Mapping[str, Any], Measurements], Judgement]
"""From the parameters and the measurements of a run or a cell to what they mean."""

Present = Callable[[Result, Topology, Path], Presentation]
"""From the result, the topology and the folder of results to what is shown beside the table."""

RunFunction = TypeVar("RunFunction", bound=Run)


@dataclass(frozen=True, eq=False)
class Settings:
    """What the decorator `scenario` is told.

    name: what `testbed run` calls it.
    topology: the name of its topology file, without the suffix.
    grid: the values of the parameters that are varied; their product is the matrix of cells.
    judge: from parameters and measurements to a `Judgement`.
    extra: cells beside the matrix; parameters that are not named have their defaults.
    repeat: how often each cell is run.
    present: what is shown beside the table; None for nothing.
    columns: headings of parameters and measurements in the table, in order; empty for all.
    labels: words for the values of a parameter.
    machine_needs: what it needs of this machine that no other kernel has; see `NodeKind`.
    """

    name: str
    _: KW_ONLY
    topology: str
    grid: Mapping[str, Sequence[Any]]
    judge: Judge
    extra: Sequence[Mapping[str, Any]] = ()
    repeat: int = 1
    present: Present | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    machine_needs: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Scenario(Settings):
    """One experiment: a function of an `Experiment` and typed parameters, with its settings.

    parameters: the typed parameters of the function, by name.
    """

    function: Run = field(kw_only=True)
    parameters: dict[str, Parameter] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", parameters_of(self.function))

    def __repr__(self) -> str:
        return f"<Scenario {self.name}({', '.join(self.parameters)})>"

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]

    def cells(self, given: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
        """The full parameters of every cell: defaults, then grid, then what is `given`."""
        defaults = {name: (one.default,) for name, one in self.parameters.items()}
        axes = {**defaults, **self.grid, **given}
        cells = [
            dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
        ]
        for extra in self.extra:
            if all(extra[name] in given[name] for name in extra if name in given):
                axes = {**defaults, **given, **{name: (value,) for name, value in extra.items()}}
                cells += [
                    dict(zip(axes, values, strict=True))
                    for values in itertools.product(*axes.values())
                ]
        return [cell for number, cell in enumerate(cells) if cell not in cells[:number]]


class scenario(Settings):  # noqa: N801  (a decorator)
    """Register the decorated function as a scenario with these settings."""

    def __call__(self, function: RunFunction) -> RunFunction:
        made = Scenario(**vars(self), function=function)
        function.scenario = made  # type: ignore[attr-defined]
        return function


def scenarios() -> dict[str, Scenario]:
    """All scenarios by name: the modules of the catalogue, and those of other distributions."""
    modules = discover("testbed.scenarios.catalogue", ENTRY_POINTS, "scenario", ScenarioError)
    found = {}
    for module in modules:
        for value in vars(module).values():
            one = getattr(value, "scenario", None)
            if isinstance(one, Scenario):
                found[one.name] = one
    return found


def machine_needs(scenario: Scenario, topology: Topology) -> str:
    """What it needs of this machine that no other kernel has; empty for nothing."""
    if scenario.machine_needs:
        return f"the scenario {scenario.name} needs {scenario.machine_needs} of this machine"
    return kinds.machine_needs(topology)


def topology_file(target: str) -> Path:
    """The file of the topology that `find` loads, without links in its path.

    Raises what `find` raises for a target that is neither a scenario nor a topology.
    """
    known = scenarios()
    return topology_path(known[target].topology if target in known else target).resolve()


def find(target: str) -> tuple[Scenario, Topology]:
    """The scenario of a name, or the one that a topology names, with its topology.

    Raises `ScenarioError` with the nearest name, and what loading the topology raises.
    """
    known = scenarios()
    if target in known:
        chosen = known[target]
        return chosen, load(chosen.topology)
    if find_topology(target) is None:
        raise ScenarioError(
            f"There is no scenario '{target}'{suggestion(target, known) or '.'} "
            f"There are: {', '.join(sorted(known))}. A topology works too, by its file or name."
        )
    topology = load(target)
    if topology.scenario is None:
        raise ScenarioError(
            f"{target} names no scenario, so there is nothing to run in it. Add the key "
            f"`scenario:` with one of: {', '.join(sorted(known))}."
        )
    if topology.scenario not in known:
        raise ScenarioError(
            f"{target} names the scenario '{topology.scenario}', which does not exist"
            f"{suggestion(topology.scenario, known) or '.'}"
        )
    return known[topology.scenario], topology
