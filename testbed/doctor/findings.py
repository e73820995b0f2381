"""What a probed machine means for labs: each finding with its cure. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec

from testbed.doctor.probe import Machine
from testbed.kernel.processes import userns

State = Literal["ok", "degraded", "missing"]
Feature = Literal["labs", "emulation", "captures", "congestion-control", "containers"]

_FILES_PER_NODE = 4
_FILES_OF_LAB = 256
_USUAL_FILES = 4096
_USUAL_CONGESTION_CONTROLS = frozenset({"reno", "cubic", "bbr"})
_AS_ROOT = "run as root, e.g. with sudo"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    found: what is there; meaning: what follows for labs; cure: the command (or change) that mends
    it, empty where nothing is to be mended. stops: what cannot be done at all without it.
    elsewhere: what to do instead of mending it, where another kernel has it.
    """

    what: str
    state: State
    found: str
    meaning: str = ""
    cure: str = ""
    stops: Feature | None = None
    elsewhere: str = ""


def judge(machine: Machine) -> tuple[Finding, ...]:
    """All findings about the machine, the essential ones first."""
    return tuple(finding for rule in _RULES for finding in rule(machine))


def obstacles(findings: Sequence[Finding], *features: Feature) -> tuple[Finding, ...]:
    """The findings that stop one of the features; labs are always needed."""
    wanted = {"labs", *features}
    return tuple(one for one in findings if one.state == "missing" and one.stops in wanted)


def _weigh(
    what: str,
    good: bool,
    found: str,
    *,
    otherwise: State,
    meaning: str,
    cure: str,
    stops: Feature | None = None,
    elsewhere: str = "",
) -> Finding:
    """A finding whose meaning and ways out are told only when it is not good."""
    if good:
        return Finding(what=what, state="ok", found=found, stops=stops)
    return Finding(
        what=what,
        state=otherwise,
        found=found,
        meaning=meaning,
        cure=cure,
        stops=stops,
        elsewhere=elsewhere,
    )


def _system(machine: Machine) -> Iterator[Finding]:
    yield Finding(what="kernel", state="ok", found=f"Linux {machine.kernel}")
    yield Finding(what="python", state="ok", found=machine.python)
    yield _weigh(
        "processors",
        machine.processors > 1,
        str(machine.processors),
        otherwise="degraded",
        meaning="The link emulator takes turns with the traffic: times vary more.",
        cure="give this machine a second processor",
    )


def _privileges(machine: Machine) -> Iterator[Finding]:
    inside = machine.inside
    if inside.user_namespace is not None:
        lacking = ", ".join(inside.missing_capabilities)
        yield Finding(
            what="privileges",
            state="missing",
            found=f"user {machine.user} without {lacking}",
            meaning=inside.user_namespace,
            cure=userns.cure(machine.forbidding) if machine.forbidding else _AS_ROOT,
            stops="labs",
            elsewhere=userns.ANOTHER_KERNEL,
        )
    elif inside.rootless:
        yield Finding(
            what="privileges",
            state="ok",
            found=f"user {machine.user}, in a user namespace",
            meaning="Labs are built in a user namespace; `testbed` moves there by itself.",
        )
    else:
        found = f"user {machine.user}, with all capabilities that labs need"
        yield Finding(what="privileges", state="ok", found=found)


def _namespaces(machine: Machine) -> Iterator[Finding]:
    if machine.inside.user_namespace is not None:
        return  # nothing else was tried
    for what, limit, error in (
        ("network namespaces", "user.max_net_namespaces", machine.inside.network_namespace),
        ("pid namespaces", "user.max_pid_namespaces", machine.inside.pid_namespace),
    ):
        by_limit = f"see `sysctl {limit}`; a container needs CAP_SYS_ADMIN"
        yield _weigh(
            what,
            error is None,
            error or "can be made",
            otherwise="missing",
            meaning="No lab can be built.",
            cure=userns.cure(machine.forbidding) if machine.forbidding else by_limit,
            stops="labs",
            elsewhere=userns.ANOTHER_KERNEL,
        )


def _unshare(machine: Machine) -> Iterator[Finding]:
    path = machine.programs["unshare"]
    yield _weigh(
        "unshare",
        path is not None,
        path or "not installed",
        otherwise="missing",
        meaning="Programs in a lab could not be ended with it.",
        cure="apt-get install util-linux",
        stops="labs",
    )


def _tcpdump(machine: Machine) -> Iterator[Finding]:
    version = machine.programs["tcpdump"]
    yield _weigh(
        "tcpdump",
        version is not None,
        version or "not installed",
        otherwise="missing",
        meaning="Topologies with captures cannot be built.",
        cure="apt-get install tcpdump",
        stops="captures",
    )


def _tun(machine: Machine) -> Iterator[Finding]:
    error = machine.inside.tun
    yield _weigh(
        "/dev/net/tun",
        error is None,
        "usable" if error is None else error.partition(". ")[0],
        otherwise="missing",
        meaning="There can be no emulated links and no middleboxes.",
        cure="sudo modprobe tun && sudo chmod 0666 /dev/net/tun",
        stops="emulation",
        elsewhere=userns.ANOTHER_KERNEL,
    )


def _steering(machine: Machine) -> Iterator[Finding]:
    if machine.inside.tun is not None or machine.processors < 2:
        return
    error = machine.inside.steering
    yield _weigh(
        "packet steering",
        error is None,
        "available" if error is None else error,
        otherwise="degraded",
        meaning="Emulated links and middleboxes carry less: they do the receivers' work, too.",
        cure="use a kernel from 6.3 on, or run as root",
    )


def _arrival_stamps(machine: Machine) -> Iterator[Finding]:
    if machine.inside.tun is not None:
        return
    stamped = machine.inside.arrival_stamps
    yield _weigh(
        "arrival stamps",
        stamped,
        "available" if stamped else "no BPF for this user",
        otherwise="degraded",
        meaning="Emulated delays begin when packets are read: late by a wake-up, some 0.1 ms.",
        cure=_AS_ROOT,
    )


def _qdiscs(machine: Machine) -> Iterator[Finding]:
    known = machine.inside.qdiscs
    netem = known.get("netem", False)
    yield _weigh(
        "netem",
        netem,
        "available" if netem else "this kernel has no sch_netem",
        otherwise="degraded",
        meaning="Links are emulated by testbed's own emulator, `userspace`.",
        cure="sudo modprobe sch_netem, where the kernel comes with modules",
    )
    present = [kind for kind, there in known.items() if there and kind != "netem"]
    absent = [kind for kind, there in known.items() if not there and kind != "netem"]
    yield _weigh(
        "queueing disciplines",
        not absent,
        ", ".join(present) or "none",
        otherwise="degraded",
        meaning=f"Not in this kernel: {', '.join(absent)}.",
        cure=f"sudo modprobe -a {' '.join(f'sch_{kind}' for kind in absent)}",
    )


def _congestion_controls(machine: Machine) -> Iterator[Finding]:
    inside = machine.inside
    absent = sorted(_USUAL_CONGESTION_CONTROLS - set(inside.congestion_controls))
    default = inside.default_congestion_control or "unknown"
    yield Finding(
        what="congestion controls",
        state="degraded" if absent else "ok",
        found=", ".join(inside.congestion_controls) or "unknown",
        meaning=f"The default is {default}: set `congestion_control:` where it matters.",
        cure=f"sudo modprobe -a {' '.join(f'tcp_{name}' for name in absent)}" if absent else "",
    )
    error = inside.route_congestion_control
    yield _weigh(
        "congestion control per route",
        error is None,
        error or "heeded",
        otherwise="missing",
        meaning="`congestion_control:` of a node cannot be had.",
        cure="use a kernel from 4.0 on with CONFIG_CHECKPOINT_RESTORE",
        stops="congestion-control",
        elsewhere=userns.ANOTHER_KERNEL,
    )


def _realtime(machine: Machine) -> Iterator[Finding]:
    granted = machine.inside.realtime
    yield _weigh(
        "real-time priority",
        granted,
        "permitted" if granted else "not permitted",
        otherwise="degraded",
        meaning="Emulated delays are late by some tenths of a ms more.",
        cure=f"{_AS_ROOT}, or raise `rtprio` in /etc/security/limits.conf",
    )


def _open_files(machine: Machine) -> Iterator[Finding]:
    limit = machine.open_files
    if limit is None:
        yield Finding(what="open files", state="ok", found="no limit")
        return
    few = limit < _USUAL_FILES
    yield Finding(
        what="open files",
        state="degraded" if few else "ok",
        found=f"{limit} at most",
        meaning=f"Enough for about {max(0, limit - _FILES_OF_LAB) // _FILES_PER_NODE} nodes.",
        cure="raise `nofile` in /etc/security/limits.conf" if few else "",
    )


def _optional(machine: Machine) -> Iterator[Finding]:
    path = machine.programs["tshark"]
    yield _weigh(
        "tshark (optional)",
        path is not None,
        path or "not installed",
        otherwise="missing",
        meaning="Some of testbed's own tests are skipped.",
        cure="apt-get install tshark",
    )
    yield _weigh(
        "virtual clock (optional)",
        bool(machine.virtual_kernels),
        ", ".join(machine.virtual_kernels) or "no kernel built",
        otherwise="missing",
        meaning="With it `testbed run` has exact times, and the same packets in every run.",
        cure="testbed kernel build",
    )


def _containers(machine: Machine) -> Iterator[Finding]:
    found, _, cure = machine.no_engine.partition(". ")
    yield _weigh(
        "container engine (optional)",
        bool(machine.engine),
        machine.engine or found,
        otherwise="missing",
        meaning="Topologies with nodes of the kind `container` cannot be built.",
        cure=cure,
        stops="containers",
    )


_PRIVILEGED: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    _tun,
    _steering,
    _arrival_stamps,
    _qdiscs,
    _congestion_controls,
    _realtime,
)


def _what_needs_privileges(machine: Machine) -> Iterator[Finding]:
    """What was tried inside a network namespace, where one could be made."""
    if machine.inside.user_namespace is None and machine.inside.network_namespace is None:
        for rule in _PRIVILEGED:
            yield from rule(machine)


_RULES: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    _system,
    _privileges,
    _namespaces,
    _unshare,
    _tcpdump,
    _what_needs_privileges,
    _open_files,
    _optional,
    _containers,
)
