"""One container: started by the engine, without a network, for a node of a lab."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from testbed.containers.engine import ContainerEngine
from testbed.containers.owner import LAB, OWNER, OwnerLabel
from testbed.errors import EngineError
from testbed.kernel.processes.process import await_readable
from testbed.topology.kinds.container import ContainerSettings

NODE: Final = "testbed.node"

_NO_RESOLVER: Final = "127.0.0.1"  # refuses at once; otherwise the engine puts in the host's
# What the engine gives to a command whose image says nothing else.
_USUAL_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NANO: Final = 10**9
_LAST_LINES: Final = 20
_HEAR_SECONDS: Final = 10
_LOG_BYTES: Final = 16 << 20


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a container is made for and with.

    lab, owner: the id of the lab, and its thread. hosts: `name:address` of all nodes. sysctls: of
    its network namespace, from before its command begins.
    """

    lab: str
    owner: OwnerLabel
    node: str
    image: str
    settings: ContainerSettings
    hosts: Sequence[str]
    sysctls: Mapping[str, str]


class RunningContainer:
    """A running container, known by its first process.

    pid: of that, as this process sees it; pidfd: a descriptor of it (pidfd_open(2)).
    """

    def __init__(self, engine: ContainerEngine, order: Order, found: Mapping[str, Any]) -> None:
        self._engine = engine
        self.id = str(found["Id"])
        self.node = order.node
        self.image = order.image
        config = found["Config"]
        given = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
        self.environment = {"PATH": _USUAL_PATH, "HOSTNAME": order.node, **given}
        self.folder = str(config.get("WorkingDir") or "/")
        self.user = str(config.get("User") or "")
        self.pidfd, self.pid = _first_process(self.id, int(found["State"]["Pid"]))

    def __repr__(self) -> str:
        return f"<RunningContainer {self.id[:12]} of {self.image} for '{self.node}'>"

    def descriptor(self) -> int:
        """A new descriptor of its first process."""
        return os.dup(self.pidfd)

    def ended_within(self, seconds: float) -> bool:
        """Whether its first process ends within this time."""
        return await_readable(self.pidfd, seconds)

    def ending(self) -> str:
        """How it ended, in words."""
        try:
            with self._engine.blame(f"container of '{self.node}'"):
                # The process is gone before the engine has heard of it.
                status = self._engine.api.wait(self.id, timeout=_HEAR_SECONDS)["StatusCode"]
                state = self._engine.api.inspect_container(self.id)["State"]
        except EngineError:
            return "ended, and the container engine does not answer"
        memory = ", by want of memory" if state.get("OOMKilled") else ""
        return f"ended, status {status}{memory}"

    def said_last(self) -> str:
        """The last lines of its log; none where the engine does not answer."""
        try:
            return self.log(_LAST_LINES).decode(errors="replace")
        except EngineError:
            return ""

    def log(self, lines: int | str = "all") -> bytes:
        """What its command has written to standard output and error, 16 MiB at most.

        Raises `EngineError`.
        """
        with self._engine.blame(f"log of the container of '{self.node}'"):
            said: bytes = self._engine.api.logs(self.id, stdout=True, stderr=True, tail=lines)
        return said[-_LOG_BYTES:]

    def image_check(self) -> tuple[str, ...]:
        """The command that its image says it is healthy by; empty where the image has none."""
        image = self._engine.image(self.image) or {}
        test = (image.get("Config", {}).get("Healthcheck") or {}).get("Test") or ["NONE"]
        how, *words = test
        if how == "CMD":
            return tuple(words)
        return ("/bin/sh", "-c", *words) if how == "CMD-SHELL" else ()

    def close(self) -> None:
        """Close the descriptor; the container lives on."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def start_container(engine: ContainerEngine, order: Order) -> RunningContainer:
    """Make a container and start its command.

    Raises `EngineError` where the engine refuses, a limit is not what was asked for, or the
    command has ended already.
    """
    settings = order.settings
    with engine.blame(f"container of the node '{order.node}'"):
        made = engine.api.create_container(
            order.image,
            command=list(settings.command) or None,
            name=f"testbed-{order.lab}-{order.node}",
            hostname=order.node,
            environment=settings.environment,
            labels={
                LAB: order.lab,
                NODE: order.node,
                OWNER: msgspec.json.encode(order.owner).decode(),
            },
            # Run by the engine, checks would come in the middle of an experiment.
            healthcheck={"test": ["NONE"]},
            host_config=engine.api.create_host_config(**_host_config(order)),
        )
        engine.api.start(made["Id"])
        found = engine.api.inspect_container(made["Id"])
    _check_limits(order, found["HostConfig"])
    if not found["State"]["Running"]:
        said = engine.api.logs(made["Id"], tail=_LAST_LINES).decode(errors="replace")
        how = f"ended, status {found['State']['ExitCode']}"
        raise EngineError(ended_early(order.node, how, said))
    return RunningContainer(engine, order, found)


def ended_early(node: str, how: str, said: str) -> str:
    """What to tell of a container that did not live to see its lab."""
    words = f" It said: {said.strip()}." if said.strip() else ""
    return (
        f"The container of the node '{node}' {how}, as soon as it was started.{words} A node needs "
        "a command that goes on, e.g. `command: [sleep, infinity]`."
    )


def _host_config(order: Order) -> dict[str, Any]:
    settings = order.settings
    return {
        "network_mode": "none",
        "binds": [
            f"{mount.source}:{mount.target}:{'rw' if mount.writable else 'ro'}"
            for mount in settings.mounts
        ],
        "cap_add": list(settings.capabilities),
        "nano_cpus": None if settings.cpus is None else round(settings.cpus * _NANO),
        "mem_limit": None if settings.memory is None else round(settings.memory),
        "extra_hosts": list(order.hosts),
        "dns": [_NO_RESOLVER],
        "sysctls": dict(order.sysctls),
    }


def _check_limits(order: Order, given: Mapping[str, Any]) -> None:
    """Raise `EngineError` unless the limits are those that were asked for."""
    asked = _host_config(order)
    for key, there, name in (("nano_cpus", "NanoCpus", "cpus"), ("mem_limit", "Memory", "memory")):
        if asked[key] is not None and given.get(there) != asked[key]:
            raise EngineError(
                f"The container engine does not limit `{name}` of the node '{order.node}': asked "
                f"for {asked[key]}, it has {given.get(there)}. This machine's control groups may "
                "lack it; leave the key out."
            )


def _first_process(container: str, told: int) -> tuple[int, int]:
    """A descriptor and the pid of a container's first process, in this pid namespace.

    told: the engine's number for it, which is another one where the engine lives in a pid
    namespace of its own. What tells the process for certain is its control group. Raises
    `EngineError`.
    """
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    for pid in (told, *numbers):
        try:
            if not _is_first_process(pid, container):
                continue
            pidfd = os.pidfd_open(pid)
            if _is_first_process(pid, container):  # no other process has got the number
                return pidfd, pid
            os.close(pidfd)
        except OSError:  # it has ended meanwhile
            continue
    raise EngineError(
        f"The first process of the container {container[:12]} is not to be seen from here: it has "
        "ended, or the container engine runs in a place whose processes this one cannot see (on "
        "another machine, or outside the container that testbed runs in). Run both side by side."
    )


def _is_first_process(pid: int, container: str) -> bool:
    if container not in Path(f"/proc/{pid}/cgroup").read_text():
        return False
    status = Path(f"/proc/{pid}/status").read_text()
    return re.search(r"^NSpid:.*\t1$", status, re.MULTILINE) is not None
