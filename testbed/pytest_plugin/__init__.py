"""The pytest plugin: fixtures that run topologies for tests.

Loaded by every pytest run on a machine that has testbed installed, so it imports nothing heavy
until a test asks for a lab. See docs/pytest.md.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

from testbed.kernel.seeds import SEED_VARIABLE
from testbed.pytest_plugin import options

if TYPE_CHECKING:
    from testbed.lab import Lab
    from testbed.pytest_plugin.labs import LabsOfProcess, MakeLab

_labs: pytest.StashKey[LabsOfProcess] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    wanted = config.getoption(options.KERNEL)
    if config.getoption(options.CLOCK) == "real" and wanted in (None, "host"):
        return None
    from testbed.pytest_plugin.clock import run_elsewhere

    return run_elsewhere(config)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "topology(source, **overrides): the topology (a path, a name, or a Topology) that the "
        "fixtures `lab` and `shared_lab` build, and what is to be different in it",
    )
    if config.getoption(options.SEED) is not None:
        os.environ[SEED_VARIABLE] = str(config.getoption(options.SEED))
    # The option would swallow the path of a test that follows it.
    keep, folder = options.KEEP, config.getoption(options.KEEP)
    if keep in config.invocation_params.args and folder != options.DIRECTORY:
        raise pytest.UsageError(f"give the directory as {keep}=DIR, or put {keep} last")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Topologies and overrides are named in the names of tests."""
    if argname not in ("lab", "shared_lab"):
        return None
    from testbed.pytest_plugin.sources import words_of

    return words_of(val)


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A running lab of the topology that the test is marked or parametrised with.

    The test is skipped, with the reason, where this machine cannot build it.
    """
    yield from _lab_for(request, shared=False)


@pytest.fixture(scope="module")
def shared_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A running lab that all tests of a module share, of the topology in its `pytestmark`.

    It is built once. After each test it is looked at: the one that broke it fails, and so do
    those that would use it after that.
    """
    yield from _lab_for(request, shared=True)


@pytest.fixture(scope="session")
def make_lab(request: pytest.FixtureRequest) -> MakeLab:
    """Labs for fixtures of any scope: `with make_lab("pair", seed=3) as lab: yield lab`."""
    from testbed.pytest_plugin.labs import MakeLab

    return MakeLab(request.config, _labs_of(request.config))


def _lab_for(request: pytest.FixtureRequest, *, shared: bool) -> Iterator[Lab]:
    from testbed.errors import TestbedError
    from testbed.pytest_plugin.sources import plan_of_request

    try:
        plan = plan_of_request(request)
        with _labs_of(request.config).run(request.config, plan, shared=shared) as running:
            yield running
    except TestbedError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def _labs_of(config: pytest.Config) -> LabsOfProcess:
    if _labs not in config.stash:
        from testbed.pytest_plugin.labs import LabsOfProcess

        config.stash[_labs] = LabsOfProcess()
    return config.stash[_labs]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Know which test is running; refuse to run it in a lab that another one has broken."""
    __tracebackhide__ = True
    if {"lab", "shared_lab", "make_lab"}.isdisjoint(getattr(item, "fixturenames", ())):
        yield
        return
    labs = _labs_of(item.config)
    labs.begin(item.nodeid)
    yield
    for one in labs.of(item):
        if one.broken_by:
            pytest.fail(one.story, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what is known of the labs of a failing test while they are still there."""
    report = yield
    labs = item.config.stash.get(_labs, None)
    if labs is None:
        return report
    labs.blame(item, report)
    kept = report.when == "call" and item.config.getoption(options.KEEP) is not None
    if report.failed or kept:
        from testbed.pytest_plugin.reporting import add_to_report

        add_to_report(labs, item, report)
    if report.failed or report.when == "teardown":
        labs.forget()
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell loudly of tests without a lab: a suite of them alone looks like a success."""
    reasons = [
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and options.NO_LAB in report.longrepr[2]
    ]
    if reasons:
        terminalreporter.section("testbed: tests without a lab", red=True)
        terminalreporter.line(
            f"{len(reasons)} skipped, for labs cannot be built here; {options.REQUIRE} makes them "
            "fail."
        )
        for reason in dict.fromkeys(reasons):
            terminalreporter.line(reason)
