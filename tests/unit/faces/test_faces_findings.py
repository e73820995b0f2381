"""What a probed machine means: findings from made-up machines."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from testbed.doctor.findings import Finding, judge, obstacles
from testbed.doctor.probe import QDISCS, Inside, Machine

_GOOD = Inside(
    qdiscs=dict.fromkeys(QDISCS, True),
    congestion_controls=("reno", "cubic", "bbr"),
    default_congestion_control="cubic",
    arrival_stamps=True,
    realtime=True,
)


def _machine(*, inside: dict[str, Any] | None = None, **changes: Any) -> Machine:
    values: dict[str, Any] = {
        "kernel": "6.18.0",
        "python": "3.11.2",
        "processors": 2,
        "user": 0,
        "inside": msgspec.structs.replace(_GOOD, **(inside or {})),
        "programs": {
            "tcpdump": "tcpdump version 4.99.3",
            "unshare": "/usr/bin/unshare",
            "tshark": "/usr/bin/tshark",
        },
        "forbidding": {},
        "open_files": None,
        "virtual_kernels": ("6.12.117-0123abcd",),
        "engine": "version 20.10.24 at /var/run/docker.sock",
    }
    return Machine(**{**values, **changes})


def _finding(machine: Machine, what: str) -> Finding:
    (found,) = (one for one in judge(machine) if one.what == what)
    return found


def test_a_good_machine_has_nothing_to_mend() -> None:
    findings = judge(_machine())
    assert {finding.state for finding in findings} == {"ok"}
    assert not any(finding.cure for finding in findings)


@pytest.mark.parametrize(
    ("change", "what", "state"),
    [
        ({"processors": 1}, "processors", "degraded"),
        ({"open_files": 1024}, "open files", "degraded"),
        ({"virtual_kernels": ()}, "virtual clock (optional)", "missing"),
        (
            {"engine": "", "no_engine": "No container engine answers. Install one."},
            "container engine (optional)",
            "missing",
        ),
        ({"inside": {"tun": "mode 0600"}}, "/dev/net/tun", "missing"),
        ({"inside": {"steering": "not permitted"}}, "packet steering", "degraded"),
        ({"inside": {"arrival_stamps": False}}, "arrival stamps", "degraded"),
        ({"inside": {"realtime": False}}, "real-time priority", "degraded"),
        ({"inside": {"network_namespace": "refused"}}, "network namespaces", "missing"),
        ({"inside": {"pid_namespace": "refused"}}, "pid namespaces", "missing"),
        ({"inside": {"congestion_controls": ("reno",)}}, "congestion controls", "degraded"),
        (
            {"inside": {"route_congestion_control": "gives bbr"}},
            "congestion control per route",
            "missing",
        ),
        ({"inside": {"qdiscs": {"netem": False, "tbf": True}}}, "netem", "degraded"),
        ({"inside": {"qdiscs": {"netem": True, "fq": False}}}, "queueing disciplines", "degraded"),
    ],
)
def test_each_lack_is_told_with_its_cure(change: dict[str, Any], what: str, state: str) -> None:
    finding = _finding(_machine(**change), what)
    assert finding.state == state
    assert finding.meaning and finding.cure


@pytest.mark.parametrize(("program", "stops"), [("tcpdump", "captures"), ("unshare", "labs")])
def test_a_missing_program_stops_what_needs_it(program: str, stops: str) -> None:
    programs = {**_machine().programs, program: None}
    finding = _finding(_machine(programs=programs), program)
    assert (finding.state, finding.stops) == ("missing", stops)
    assert "apt-get install" in finding.cure


def test_obstacles_are_those_of_the_features_asked_for() -> None:
    programs = {**_machine().programs, "tcpdump": None}
    findings = judge(_machine(inside={"tun": "mode 0600"}, programs=programs))
    assert obstacles(findings) == ()
    assert [one.what for one in obstacles(findings, "captures")] == ["tcpdump"]
    assert [one.what for one in obstacles(findings, "emulation")] == ["/dev/net/tun"]
    blocked = judge(_machine(inside={"pid_namespace": "refused"}))
    assert [one.what for one in obstacles(blocked)] == ["pid namespaces"]


@pytest.mark.parametrize(
    ("inside", "feature"),
    [
        ({"tun": "mode 0600"}, "emulation"),
        ({"user_namespace": "it is forbidden"}, "labs"),
        ({"network_namespace": "refused"}, "labs"),
        ({"route_congestion_control": "gives bbr"}, "congestion-control"),
    ],
)
def test_what_the_kernel_denies_another_kernel_has(inside: dict[str, Any], feature: Any) -> None:
    (finding,) = obstacles(judge(_machine(inside=inside)), feature)
    assert "--clock virtual" in finding.elsewhere and "--kernel uml" in finding.elsewhere


def test_no_user_namespace_is_the_only_thing_told_of_the_kernel() -> None:
    machine = _machine(
        user=1000,
        forbidding={"user.max_user_namespaces": ("0", "10000")},
        inside={"user_namespace": "it is forbidden", "missing_capabilities": ("CAP_SYS_ADMIN",)},
    )
    finding = _finding(machine, "privileges")
    assert finding.state == "missing"
    assert "CAP_SYS_ADMIN" in finding.found
    assert finding.meaning == "it is forbidden"
    assert finding.cure == "sudo sysctl -w user.max_user_namespaces=10000"
    assert obstacles(judge(machine)) == (finding,)
    told = {one.what for one in judge(machine)}
    assert not told & {"network namespaces", "/dev/net/tun", "netem", "real-time priority"}


def test_rootless_is_good_enough() -> None:
    machine = _machine(user=1000, inside={"rootless": True})
    finding = _finding(machine, "privileges")
    assert finding.state == "ok"
    assert "user namespace" in finding.found
