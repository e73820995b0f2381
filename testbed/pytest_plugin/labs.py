"""The labs that run in this process: which test built them, which one broke them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed.errors import TestbedError
from testbed.pytest_plugin.machine import skip_unless_possible
from testbed.pytest_plugin.sources import plan_of
from testbed.topology.model import Topology
from testbed.topology.planning.plan_model import Plan

if TYPE_CHECKING:
    from testbed.lab import Lab
    from testbed.pytest_plugin.evidence import Evidence

# Evidence is read by numpy, whose threads keep this process out of a user namespace: it is
# imported when a lab is there.


@dataclass
class LabInTests:
    """A running lab; shared: it outlives tests. broken_by: the first test after which it failed."""

    lab: Lab
    shared: bool
    built_by: str
    broken_by: str = ""
    failure: str = ""

    def notice_failure(self, nodeid: str) -> bool:
        """Whether it has failed since it was looked at last."""
        if self.broken_by:
            return False
        try:
            self.lab.check()
        except TestbedError as error:
            self.broken_by, self.failure = nodeid, str(error)
        return bool(self.broken_by)

    @property
    def story(self) -> str:
        return f"The lab '{self.lab.topology.name}' was broken by {self.broken_by}: {self.failure}"


@dataclass
class LabsOfProcess:
    """All labs of the plugin in this process.

    test, since_ns: the test that is running and when it began. ended: the evidence of labs that
    have ended during this test, which may fail after them.
    """

    test: str = ""
    since_ns: int = 0
    running: list[LabInTests] = field(default_factory=list)
    ended: list[Evidence] = field(default_factory=list)

    def begin(self, nodeid: str) -> None:
        self.test, self.since_ns = nodeid, time.time_ns()

    def of(self, item: pytest.Item) -> list[LabInTests]:
        """Those that a test has among its fixtures, or has built."""
        values = getattr(item, "funcargs", {}).values()
        return [
            one
            for one in self.running
            if one.built_by == item.nodeid or any(value is one.lab for value in values)
        ]

    def evidence(self, item: pytest.Item) -> list[Evidence]:
        """What is known now of the labs of a test."""
        from testbed.pytest_plugin.evidence import gather

        return [*self.ended, *(gather(one.lab, goes_on=one.shared) for one in self.of(item))]

    def blame(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Fail the test after which a shared lab is found broken."""
        broken = [one for one in self.running if one.shared and one.notice_failure(item.nodeid)]
        if not broken:
            return
        told = "\n".join(one.story for one in broken)
        if report.passed:
            report.outcome = "failed"
            report.longrepr = told
        else:
            report.sections.append(("testbed", told))

    def forget(self) -> None:
        for one in self.ended:
            one.close()
        self.ended.clear()

    @contextlib.contextmanager
    def run(self, config: pytest.Config, plan: Plan, *, shared: bool) -> Iterator[Lab]:
        """A running lab; the test is skipped where this machine cannot build it."""
        skip_unless_possible(config, plan)
        from testbed.lab import Lab
        from testbed.pytest_plugin.evidence import gather

        lab = Lab(plan)
        with contextlib.ExitStack() as stack:
            stack.enter_context(lab)
            one = LabInTests(lab, shared, self.test)
            self.running.append(one)
            # Whoever fails from here on fails without the lab.
            stack.callback(lambda: self.ended.append(gather(lab)))
            stack.callback(self.running.remove, one)
            yield lab
            if one.broken_by and shared:  # told of the test that did it
                with contextlib.suppress(TestbedError):
                    stack.close()


class MakeLab:
    """What the `make_lab` fixture gives: `with make_lab("pair", emulator="userspace") as lab: ...`.

    For fixtures of any scope. The plugin looks after its labs as it does after `lab` and
    `shared_lab`.
    """

    def __init__(self, config: pytest.Config, labs: LabsOfProcess) -> None:
        self._config = config
        self._labs = labs

    @contextlib.contextmanager
    def __call__(
        self, topology: str | os.PathLike[str] | Topology, **overrides: Any
    ) -> Iterator[Lab]:
        """A running lab of a topology and overrides, as the marker `topology` takes them.

        Raises a `TestbedError` where there can be no such lab.
        """
        source = topology if isinstance(topology, Topology | str) else Path(topology)
        plan = plan_of(self._config, source, overrides)
        with self._labs.run(self._config, plan, shared=True) as lab:
            yield lab
