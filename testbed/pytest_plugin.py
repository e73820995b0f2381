"""The pytest plugin: a `lab` fixture that runs a topology for one test.

Loaded by every pytest run on a machine that has testbed installed, so it imports nothing heavy
until a test asks for a lab. See docs/pytest.md.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.kernel.clock import USUAL_SEED
from testbed.kernel.seeds import SEED_VARIABLE

if TYPE_CHECKING:
    from testbed.doctor.findings import Feature, Finding
    from testbed.lab import Lab
    from testbed.pytest_captures import Held
    from testbed.topology.planning.plan_model import Plan

_KEEP, _REQUIRE = "--testbed-keep", "--testbed-require"
_CLOCK, _SEED, _PATIENCE = "--testbed-clock", "--testbed-seed", "--testbed-patience"
_ENV = "--testbed-env"
_DIRECTORY = "results/pytest"

_NO_LAB = "no lab here"

_running: pytest.StashKey[Lab] = pytest.StashKey()
_held: pytest.StashKey[tuple[Held, ...]] = pytest.StashKey()
_findings: pytest.StashKey[tuple[Finding, ...]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("testbed", "labs of testbed")
    group.addoption(
        _KEEP,
        nargs="?",
        const=_DIRECTORY,
        metavar="DIR",
        help="Keep the captures of all tests, not only of those that fail. They are written to "
        f"DIR, {_DIRECTORY} by default; a DIR is given as {_KEEP}=DIR.",
    )
    group.addoption(
        _REQUIRE,
        action="store_true",
        help="Fail the tests whose labs cannot be built on this machine, instead of skipping them.",
    )
    group.addoption(
        _CLOCK,
        choices=("real", "virtual"),
        default=os.environ.get("TESTBED_CLOCK", "real"),
        help="Run the tests by the real clock, or all of them by a virtual one, inside a kernel of "
        "`testbed kernel build`: exact times, the same packets in every run.",
    )
    group.addoption(
        _SEED,
        type=int,
        metavar="N",
        help=f"The seed of all that is random by the virtual clock ({USUAL_SEED} by default), or "
        "of the links alone by the real one.",
    )
    group.addoption(
        _ENV,
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="A variable that the tests get there besides PATH, HOME, PYTHONPATH and pytest's own.",
    )
    group.addoption(
        _PATIENCE,
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="End the tests there, with their stacks shown, after so much real time of silence.",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    if config.getoption(_CLOCK) != "virtual":
        return None
    from testbed.kernel.uml import boot
    from testbed.pytest_clock import run_inside

    if boot.inside():
        return None
    seed, patience = config.getoption(_SEED), config.getoption(_PATIENCE)
    return run_inside(config, seed, patience, config.getoption(_ENV))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "topology(source): the topology (a path, a name, or a Topology) that the "
        "`lab` fixture builds",
    )
    if config.getoption(_SEED) is not None:
        os.environ[SEED_VARIABLE] = str(config.getoption(_SEED))
    # The option would swallow the path of a test that follows it.
    if _KEEP in config.invocation_params.args and config.getoption(_KEEP) != _DIRECTORY:
        raise pytest.UsageError(f"give the directory as {_KEEP}=DIR, or put {_KEEP} last")


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A running lab of the topology that the test is marked or parametrised with.

    The test is skipped, with the reason, where this machine cannot build it.
    """
    from testbed.errors import TestbedError

    with contextlib.ExitStack() as stack:
        try:
            plan = _plan(request)
            _skip_unless_possible(request.config, plan)
            running = _enter(stack, plan)
        except TestbedError as error:
            raise _without_traceback(error) from None
        request.node.stash[_running] = running
        yield running
        del request.node.stash[_running]
        if running.captures:  # whoever fails from here on fails without the lab
            request.node.stash[_held] = _hold(running)
        try:
            stack.close()
        except TestbedError as error:
            raise _without_traceback(error) from None


def _without_traceback(error: Exception) -> BaseException:
    return pytest.fail.Exception(str(error), pytrace=False)


def _enter(stack: contextlib.ExitStack, plan: Plan) -> Lab:
    from testbed.lab import Lab

    return stack.enter_context(Lab(plan))


def _plan(request: pytest.FixtureRequest) -> Plan:
    from testbed.errors import LabError
    from testbed.loading import checked, load
    from testbed.topology.model import Topology
    from testbed.topology.planning.plan import plan

    marker = request.node.get_closest_marker("topology")
    if hasattr(request, "param"):
        source = request.param
    elif marker is not None and len(marker.args) == 1 and not marker.kwargs:
        source = marker.args[0]
    else:
        raise LabError(
            "The `lab` fixture needs to know its topology: mark the test with "
            '@pytest.mark.topology("path or name"), or parametrise `lab` indirectly.'
        )
    if isinstance(source, Topology):
        return plan(checked(source))
    return plan(load(_find(request, source)))


def _find(request: pytest.FixtureRequest, source: object) -> Path:
    """The file that a marker means, from pytest's root directory or from the test's own."""
    from testbed.errors import LabError
    from testbed.loading import topology_path

    if not isinstance(source, str | Path):
        raise LabError(f"A topology is a path, a name or a Topology, not {source!r}.")
    return topology_path(source, (request.config.rootpath, request.path.parent))


def _skip_unless_possible(config: pytest.Config, plan: Plan) -> None:
    """Skip a test whose lab needs what this machine does not have."""
    from testbed.doctor.findings import judge, obstacles
    from testbed.doctor.probe import probe
    from testbed.errors import PrivilegeError
    from testbed.kernel.processes import userns

    if _findings not in config.stash:
        config.stash[_findings] = judge(probe())
    findings = config.stash[_findings]
    for finding in obstacles(findings, *_features(plan)):
        told = f"{finding.what}: {finding.found}. {finding.meaning}"
        ways = f" {finding.elsewhere}." if finding.elsewhere else ""
        _skip(config, told + ways + (f" Mend it: {finding.cure}" if finding.cure else ""))
    try:
        userns.enter_if_needed()
    except PrivilegeError as error:
        _skip(config, str(error))


def _features(plan: Plan) -> Iterator[Feature]:
    """What a lab of this plan needs besides namespaces."""
    from testbed.topology import kinds

    nodes = plan.nodes.values()
    needs = {need for node in nodes if (kind := kinds.find(node.kind)) for need in kind.needs}
    if any(link.emulated for link in plan.links) or "emulation" in needs:
        yield "emulation"
    if plan.captures:
        yield "captures"
    if any(node.congestion_control is not None for node in nodes):
        yield "congestion-control"
    if "containers" in needs:
        yield "containers"


def _skip(config: pytest.Config, reason: str) -> None:
    if config.getoption(_REQUIRE):
        pytest.fail(reason, pytrace=False)
    pytest.skip(f"{_NO_LAB}: {reason}")


def _directory(item: pytest.Item) -> Path:
    from testbed.pytest_captures import directory_name

    base = item.config.getoption(_KEEP) or _DIRECTORY
    return item.config.rootpath / base / directory_name(item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the captures of a failing test while its lab is still there, and say where."""
    report = yield
    wanted = report.failed or (report.when == "call" and item.config.getoption(_KEEP) is not None)
    running = item.stash.get(_running, None)
    held = item.stash.get(_held, ())
    if wanted and running is not None and running.captures:
        held = _hold(running)
    if wanted and held:
        report.sections.append(("testbed captures", _keep(held, _directory(item))))
    if wanted or report.when == "teardown":
        item.stash[_held] = ()
        for one in held:
            one.file.close()
    return report


def _hold(running: Lab) -> tuple[Held, ...]:
    from testbed.pytest_captures import hold

    return hold(running)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell loudly of tests without a lab: a suite of them alone looks like a success."""
    reasons = [
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and _NO_LAB in report.longrepr[2]
    ]
    if reasons:
        terminalreporter.section("testbed: tests without a lab", red=True)
        terminalreporter.line(
            f"{len(reasons)} skipped, for labs cannot be built here; {_REQUIRE} makes them fail."
        )
        for reason in dict.fromkeys(reasons):
            terminalreporter.line(reason)


def _keep(held: Sequence[Held], directory: Path) -> str:
    from testbed.pytest_captures import describe, keep

    try:
        return describe(keep(held, directory))
    except OSError as error:
        return f"The captures could not be kept in {directory}: {error.strerror or error}."
