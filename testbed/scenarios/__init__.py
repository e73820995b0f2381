"""Experiments: functions that run labs over a matrix of parameters, and what comes of them.

The framework is in this package; the experiments that come with testbed are in `catalogue`, each
one in its own file.
"""

from testbed.scenarios.experiment import Experiment
from testbed.scenarios.judgement import Judgement, Measurements
from testbed.scenarios.kernel_nat import NAT_LABELS, Nat, with_kernel_nat
from testbed.scenarios.parameters import Count, Positive
from testbed.scenarios.presentation import (
    Presentation,
    conclude,
    median_of,
    medians_of,
    path_ladder,
)
from testbed.scenarios.registry import Scenario, find, scenario, scenarios
from testbed.scenarios.result import Cell, Result, RunRecord
from testbed.scenarios.runner import Outcome, run

__all__ = [
    "Cell",
    "Count",
    "Experiment",
    "Judgement",
    "Measurements",
    "NAT_LABELS",
    "Nat",
    "Outcome",
    "Positive",
    "Presentation",
    "Result",
    "RunRecord",
    "Scenario",
    "conclude",
    "find",
    "median_of",
    "medians_of",
    "path_ladder",
    "run",
    "scenario",
    "scenarios",
    "with_kernel_nat",
]
