"""The figures of emulation.py: repetitions collected, compared, and put into a table."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from emulation_measure import Findings

#: A load average above it: something else was running.
IDLE = 0.5
#: Where more is better; of all other figures that are compared less is.
MORE_IS_BETTER = ("TCP goodput, no rate", "64-byte packets")
COMPARED = (*MORE_IS_BETTER, "delay error", "path without delay", "CPU seconds")


@dataclass
class Results:
    """Of one run. figures: values of each repetition, by emulator and name; samples: likewise;
    environments: what each emulator ran on; absent: emulators that could not be had, and why;
    failures: measurements that came to nothing, and why."""

    settings: dict[str, Any]
    load_average: float
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    samples: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    environments: dict[str, dict[str, Any]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        return self.load_average <= IDLE

    def add(self, emulator: str, found: Findings) -> None:
        """One repetition of some measurements."""
        self.environments.setdefault(emulator, environment())
        for name, value in found.figures.items():
            self.figures.setdefault(emulator, {}).setdefault(name, []).append(value)
        for name, sample in found.samples.items():
            self.samples.setdefault(emulator, {}).setdefault(name, []).append(sample)

    def add_from(self, emulator: str, other: dict[str, Any], source: str) -> None:
        """What another kernel has measured, as `as_json` gives it, with its emulator `source`."""
        self.failures += (f"{failure} ({emulator})" for failure in other["failures"])
        if source not in other["environments"]:
            return
        self.environments[emulator] = other["environments"][source]
        for mine, others in ((self.figures, "figures"), (self.samples, "samples")):
            for name, values in other[others].get(source, {}).items():
                mine.setdefault(emulator, {}).setdefault(name, []).extend(values)

    def names(self) -> list[str]:
        """All figures, in the order in which they were first measured."""
        return list(dict.fromkeys(name for each in self.figures.values() for name in each))

    def as_json(self) -> dict[str, Any]:
        return {
            "benchmark": "emulation",
            "began": self.began,
            "settings": self.settings,
            "load_average_before": self.load_average,
            "idle": self.idle,
            "absent": self.absent,
            "failures": self.failures,
            "environments": self.environments,
            "figures": self.figures,
            "samples": self.samples,
        }


def environment() -> dict[str, Any]:
    """What this kernel and machine are."""
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processor": processor_model(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "testbed": version("testbed"),
        "revision": revision(),
    }


def revision() -> str | None:
    """The commit that is measured, where it can be told."""
    if shutil.which("git") is None:
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    said = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or None


def processor_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")


def lines(results: Results) -> Iterator[str]:
    """The table: medians with the smallest and the largest, a column for each emulator."""
    if results.settings["quick"]:
        yield "QUICK: a look at whether everything works; no figure here is to be cited."
    if not results.idle:
        yield (
            f"NOT IDLE: the load average was {results.load_average:.2f} before the run; "
            "no figure here is to be cited."
        )
    columns = list(results.figures)
    names = results.names()
    width = max(map(len, names), default=0)
    widths = [max(25, len(column)) for column in columns]
    ratios = [f"x {peer}" for peer in peers(results)]
    heads = [f"{column:>{room}}" for column, room in zip(columns, widths, strict=True)]
    yield "  ".join([" " * width, *heads, *ratios]).rstrip()
    for name in names:
        cells = [
            f"{cell(results.figures[column].get(name)):>{room}}"
            for column, room in zip(columns, widths, strict=True)
        ]
        for head in ratios:
            times = ratio(results, head.removeprefix("x "), name)
            cells.append(" " * len(head) if times is None else f"{times:{len(head)}.2f}")
        yield "  ".join([f"{name:<{width}}", *cells]).rstrip()
    for column, known in results.environments.items():
        yield f"{column}: Linux {known['kernel']}, {known['cpus']} processors {known['processor']}"
    for column, reason in results.absent.items():
        yield f"{column} was not measured: {reason}"
    for failure in results.failures:
        yield f"FAILED: {failure}"


def peers(results: Results) -> list[str]:
    """Emulators that ours may be compared with: measured in turn with it, on the same kernel."""
    ours = results.environments.get("userspace")
    return [
        name
        for name, known in results.environments.items()
        if ours and name != "userspace" and known["kernel"] == ours["kernel"]
    ]


def cell(values: list[float] | None) -> str:
    if not values:
        return "-"
    digits = 3 if max(values) < 1 else 2 if max(values) < 200 else 1
    middle, low, high = statistics.median(values), min(values), max(values)
    spread = "" if len(values) == 1 else f" ({low:.{digits}f}..{high:.{digits}f})"
    return f"{middle:.{digits}f}{spread}"


def ratio(results: Results, peer: str, name: str) -> float | None:
    """How many times a peer's figure ours is: the median of the ratios of each repetition.

    None where they are not to be compared.
    """
    ours = results.figures["userspace"].get(name, [])
    theirs = results.figures[peer].get(name, [])
    if not name.startswith(COMPARED) or not ours or len(ours) != len(theirs) or 0 in theirs:
        return None
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
