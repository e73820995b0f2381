"""What a result depends on beside its parameters."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import distribution, version
from urllib.parse import unquote, urlsplit

import msgspec

from testbed.kernel.clock import ClockName, clock_name
from testbed.kernel.processes.process import find_program
from testbed.lab import Lab

# Settings that change what TCP does on the wire.
_SYSCTLS = (
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_sack",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_window_scaling",
    "net.ipv4.tcp_ecn",
    "net.ipv4.tcp_fastopen",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_no_metrics_save",
    "net.ipv4.tcp_recovery",
    "net.ipv4.tcp_early_retrans",
    "net.ipv4.tcp_frto",
    "net.ipv4.tcp_reordering",
    "net.ipv4.tcp_mtu_probing",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)
_PACKAGES = ("testbed", "pyroute2", "msgspec")


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Kernel, versions, TCP settings of each node, and the revision of this code.

    steering: by emulator and middlebox, which processors share its work under load, or why none
    do.
    """

    kernel: str
    clock: ClockName = "real"
    machine: str
    cpus: int
    versions: dict[str, str]
    emulator: str
    steering: dict[str, str] = {}
    sysctls: dict[str, dict[str, str]]
    congestion_control: dict[str, str]
    git_revision: str | None


class _DirInfo(msgspec.Struct, frozen=True):
    editable: bool = False


class _VcsInfo(msgspec.Struct, frozen=True):
    commit_id: str | None = None


class _Origin(msgspec.Struct, frozen=True):
    url: str
    dir_info: _DirInfo = _DirInfo()
    vcs_info: _VcsInfo = _VcsInfo()


def observe(lab: Lab) -> Environment:
    """The environment of a running lab; sysctls are those of its hosts."""
    hosts = [node for node in lab.nodes.values() if node.kind == "host"]
    return Environment(
        kernel=platform.release(),
        clock=clock_name(),
        machine=platform.machine(),
        cpus=os.cpu_count() or 1,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
            "tcpdump": _tcpdump_version(),
        },
        emulator=lab.emulator_name,
        steering=dict(lab.steering),
        sysctls={node.name: {name: node.sysctl(name) for name in _SYSCTLS} for node in hosts},
        congestion_control={
            node.name: node.planned.congestion_control
            or node.sysctl("net.ipv4.tcp_congestion_control")
            for node in hosts
        },
        git_revision=_git_revision(),
    )


def _tcpdump_version() -> str:
    said = subprocess.run(
        [find_program("tcpdump"), "--version"], capture_output=True, text=True, check=False
    )
    first = (said.stdout or said.stderr).partition("\n")[0]
    return first.removeprefix("tcpdump version ").strip()


def _git_revision() -> str | None:
    """The commit that this distribution was installed from; None where none is recorded.

    Source: direct_url.json of the installed distribution (PEP 610).
    """
    recorded = distribution("testbed").read_text("direct_url.json")
    if recorded is None:
        return None
    origin = msgspec.json.decode(recorded, type=_Origin)
    if not origin.dir_info.editable:
        return origin.vcs_info.commit_id
    folder = unquote(urlsplit(origin.url).path)
    try:
        said = subprocess.run(
            ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return said.stdout.strip() or None
