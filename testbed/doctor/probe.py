"""What this kernel and these privileges can do, as plain data.

Everything that needs a namespace is tried by a child process in namespaces of its own, so that
neither this process nor the host is touched. (Trying a qdisc may make the kernel load its
module, like any use of it.)
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess

import msgspec

from testbed.containers.engine import ContainerEngine
from testbed.errors import EngineError, KernelError, MissingProgram
from testbed.kernel.processes import userns
from testbed.kernel.processes.interpreter import module_command, module_environment
from testbed.kernel.processes.process import find_program
from testbed.kernel.uml.store import built_kernels

QDISCS = ("netem", "tbf", "htb", "fq", "fq_codel", "codel", "red", "pie", "cake")

_SECONDS = 30.0


class Inside(msgspec.Struct, kw_only=True):
    """What the child process found; an error text is None where the thing worked.

    missing_capabilities: before it moved into a user namespace. rootless: whether it did so.
    What comes after the first failure is not tried and keeps its default.
    """

    missing_capabilities: tuple[str, ...] = ()
    rootless: bool = False
    user_namespace: str | None = None
    network_namespace: str | None = None
    pid_namespace: str | None = None
    tun: str | None = None
    steering: str | None = None
    arrival_stamps: bool = False
    qdiscs: dict[str, bool] = {}
    congestion_controls: tuple[str, ...] = ()
    default_congestion_control: str = ""
    route_congestion_control: str | None = None
    realtime: bool = False


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What was found on this machine, for this user.

    programs: name and version (or path), None where it is not installed. forbidding: sysctls that
    keep ordinary users from labs, see `userns.forbidding_settings`. open_files: the hard limit,
    None for no limit. virtual_kernels: the kernels with a virtual clock that this user has built,
    for this testbed. engine: the container engine, in words; no_engine: why there is none.
    """

    kernel: str
    python: str
    processors: int
    user: int
    inside: Inside
    programs: dict[str, str | None]
    forbidding: dict[str, tuple[str, str]]
    open_files: int | None
    virtual_kernels: tuple[str, ...] = ()
    engine: str = ""
    no_engine: str = ""


def probe() -> Machine:
    """Look at this machine; takes half a second. Needs no privileges and changes nothing.

    Raises `KernelError` when the child process ends without an answer.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    engine, no_engine = _look_for_engine()
    return Machine(
        kernel=os.uname().release,
        python=platform.python_version(),
        processors=len(os.sched_getaffinity(0)),
        user=os.getuid(),
        inside=_look_inside(),
        programs={
            "tcpdump": _version("tcpdump"),
            "unshare": _path("unshare"),
            "tshark": _path("tshark"),
        },
        forbidding=userns.forbidding_settings(),
        open_files=None if hard == resource.RLIM_INFINITY else hard,
        virtual_kernels=tuple(one.name for one in built_kernels() if one.current),
        engine=engine,
        no_engine=no_engine,
    )


def _look_for_engine() -> tuple[str, str]:
    """The container engine in words, or why containers cannot be had."""
    try:
        engine = ContainerEngine()
    except EngineError as error:
        return "", str(error)
    engine.close()
    if os.geteuid() != 0:
        return "", "The namespaces of containers can be entered by root alone. Run as root (sudo)."
    return f"version {engine.version} at {engine.path}", ""


def _look_inside() -> Inside:
    try:
        child = subprocess.run(
            module_command("testbed.doctor.probe_inside"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env=module_environment(),
        )
    except subprocess.TimeoutExpired:
        raise KernelError(f"The probe of this machine did not end within {_SECONDS:g} s.") from None
    try:
        return msgspec.json.decode(child.stdout, type=Inside)
    except msgspec.DecodeError:
        words = child.stderr.decode(errors="replace").strip()
        raise KernelError(
            f"The probe of this machine ended with status {child.returncode}: {words}"
        ) from None


def _path(name: str) -> str | None:
    try:
        return find_program(name)
    except MissingProgram:
        return None


def _version(name: str) -> str | None:
    """The first line that the program tells with --version, its path where it tells none."""
    path = _path(name)
    if path is None:
        return None
    try:
        told = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return path
    first, _, _ = told.stdout.decode(errors="replace").partition("\n")
    return first.strip() or path
