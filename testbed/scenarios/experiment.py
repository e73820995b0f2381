"""What a scenario's function is given: labs whose captures and circumstances are recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from testbed.emulator.counters import Lateness
from testbed.errors import ScenarioError
from testbed.kernel.clock import waits_are_exact
from testbed.lab import Lab
from testbed.lab.lab import keeps_files
from testbed.scenarios.environment import Environment, observe
from testbed.topology.model import Topology


class Experiment:
    """One run: `topology` as given, and labs made by `lab()`.

    folder: where captures go. captures: their files by `node:interface`, of the last lab.
    emulator: lateness percentiles in us of the link emulator, in the lab where it was worst,
    and none where waits are exact; trustworthy: whether it kept to its topology's `max_lateness`
    in all of them. environment: observed in the last lab where `observing`.
    """

    def __init__(self, topology: Topology, folder: Path, *, observing: bool) -> None:
        self.topology = topology
        self.folder = folder
        self.captures: dict[str, Path] = {}
        self.emulator: dict[str, float] = {}
        self.trustworthy = True
        self.environment: Environment | None = None
        self._observing = observing

    @contextlib.contextmanager
    def lab(self, topology: Topology | None = None) -> Iterator[Lab]:
        """Run a lab of the topology (by default the one given) and keep its captures.

        Raises `ScenarioError` when a middlebox does not know in the end what became of a packet.
        """
        chosen = topology or self.topology
        folder = self.folder if keeps_files(chosen) else None
        with Lab(chosen, captures=folder) as running:
            yield running
            _check_accounts(running)
            self._note_lateness(running.lateness, running.topology.max_lateness)
            if self._observing:
                self.environment = observe(running)
        self.captures = {name: capture.path for name, capture in running.captures.items()}

    def _note_lateness(self, late: Lateness | None, most: float) -> None:
        if late is None or waits_are_exact():
            return
        self.trustworthy = self.trustworthy and late.p99 <= most
        if late.p99 * 1e6 >= self.emulator.get("late_us_p99", 0.0):
            self.emulator = {
                "late_us_p50": late.p50 * 1e6,
                "late_us_p99": late.p99 * 1e6,
                "late_us_max": late.maximum * 1e6,
            }


def _check_accounts(lab: Lab) -> None:
    for node in lab.nodes.values():
        if node.middlebox is not None and (counters := node.counters()).missing:
            raise ScenarioError(
                f"The middlebox '{node.name}' has lost count of {counters.missing} packets: "
                f"{counters}. Please report this as a bug of testbed."
            )
