"""Tests whose labs need what this machine does not have: skipped with the reason, or failed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.doctor.findings import Feature, Finding, judge, obstacles
from testbed.doctor.probe import probe
from testbed.errors import PrivilegeError
from testbed.kernel.processes import userns
from testbed.pytest_plugin.options import NO_LAB, REQUIRE
from testbed.topology import kinds
from testbed.topology.planning.plan_model import Plan

_findings: pytest.StashKey[tuple[Finding, ...]] = pytest.StashKey()


def skip_unless_possible(config: pytest.Config, plan: Plan) -> None:
    """Skip a test whose lab needs what this machine does not have."""
    if _findings not in config.stash:
        config.stash[_findings] = judge(probe())
    findings = config.stash[_findings]
    for finding in obstacles(findings, *_features(plan)):
        told = f"{finding.what}: {finding.found}. {finding.meaning}"
        ways = f" {finding.elsewhere}." if finding.elsewhere else ""
        _skip(config, told + ways + (f" Mend it: {finding.cure}" if finding.cure else ""))
    if plan.topology.emulator == "netem" and any(link.emulated for link in plan.links):
        for one in findings:
            if one.what == "netem" and one.state != "ok":
                ways = "`--testbed-kernel=uml` has it, `--testbed-emulator=userspace` needs none"
                _skip(config, f"the emulator netem: {one.found}. {ways}. Mend it: {one.cure}")
    try:
        userns.enter_if_needed()
    except PrivilegeError as error:
        _skip(config, str(error))


def _features(plan: Plan) -> Iterator[Feature]:
    """What a lab of this plan needs besides namespaces."""
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
    if config.getoption(REQUIRE):
        pytest.fail(reason, pytrace=False)
    pytest.skip(f"{NO_LAB}: {reason}")
