"""The options that the plugin adds to pytest's command line."""

from __future__ import annotations

import os
from typing import Final

import pytest

from testbed.kernel.clock import USUAL_SEED

KEEP, REQUIRE, EMULATOR = "--testbed-keep", "--testbed-require", "--testbed-emulator"
CLOCK, KERNEL, SEED = "--testbed-clock", "--testbed-kernel", "--testbed-seed"
PATIENCE, ENV = "--testbed-patience", "--testbed-env"
DIRECTORY: Final = "results/pytest"
#: How the reason of a skip begins.
NO_LAB: Final = "no lab here"


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("testbed", "labs of testbed")
    group.addoption(
        KEEP,
        nargs="?",
        const=DIRECTORY,
        metavar="DIR",
        help="Keep the captures of all tests, not only of those that fail. They are written to "
        f"DIR, {DIRECTORY} by default; a DIR is given as {KEEP}=DIR.",
    )
    group.addoption(
        REQUIRE,
        action="store_true",
        help="Fail the tests whose labs cannot be built on this machine, instead of skipping them.",
    )
    group.addoption(
        EMULATOR,
        choices=("auto", "userspace", "netem"),
        help="What applies impairments in all labs, whatever their topologies say; a test's own "
        "marker or parameter has the last word.",
    )
    group.addoption(
        CLOCK,
        choices=("real", "virtual"),
        default=os.environ.get("TESTBED_CLOCK", "real"),
        help="Run the tests by the real clock, or all of them by a virtual one, inside a kernel of "
        "`testbed kernel build`: exact times, the same packets in every run.",
    )
    group.addoption(
        KERNEL,
        metavar="host|uml|VERSION",
        help="Run the tests in this machine's kernel, in Debian's User-Mode Linux, or in a kernel "
        "of `testbed kernel build`.",
    )
    group.addoption(
        SEED,
        type=int,
        metavar="N",
        help=f"The seed of all that is random by the virtual clock ({USUAL_SEED} by default), or "
        "of the links alone by the real one.",
    )
    group.addoption(
        ENV,
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="A variable that the tests get in another kernel besides PATH, HOME, PYTHONPATH and "
        "pytest's own.",
    )
    group.addoption(
        PATIENCE,
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="End the tests in another kernel, with their stacks shown, after so much real time of "
        "silence.",
    )
