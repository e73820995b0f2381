"""The inside of a container, for programs that are started there beside its own command."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from testbed.errors import EngineError, PrivilegeError

# Entered by the program itself, in this order; the pid namespace is where it is born, and its
# UTS namespace is its own, as of any program of a node (descendants.py).
_JOINED: Final = ("ipc", "cgroup", "mnt")
_CONTROL_GROUPS: Final = Path("/sys/fs/cgroup")


class Confinement(msgspec.Struct, frozen=True):
    """What a program in a container is confined to, as the container's first process is.

    name: of the node. pids: descriptor of the pid namespace. joined: descriptors of the other
    namespaces. groups: the files `cgroup.procs` of its control groups. capabilities: a mask of
    those that it can have. user: as in a Dockerfile; environment and folder: of its image.
    """

    name: str
    pids: int
    joined: tuple[int, ...]
    groups: tuple[str, ...]
    capabilities: int
    no_new_privileges: bool
    user: str
    environment: Mapping[str, str]
    folder: str

    def order(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        cwd: str | None,
        told: int,
        *,
        terminal: bool,
    ) -> bytes:
        """What enter.py is to do; `told` is the descriptor on which it says what went wrong."""
        return json.dumps(
            {
                "argv": list(argv),
                "environment": dict(self.environment if env is None else env),
                "folder": cwd or self.folder,
                "joined": self.joined,
                "groups": self.groups,
                "capabilities": self.capabilities,
                "no_new_privileges": self.no_new_privileges,
                "user": self.user,
                "told": told,
                "terminal": terminal,
            }
        ).encode()

    def close(self) -> None:
        """Close the descriptors."""
        for fd in (self.pids, *self.joined):
            os.close(fd)


def open_namespace(pid: int, kind: str) -> int:
    """A descriptor of a process's namespace. Raises `PrivilegeError`, or `EngineError`."""
    try:
        return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        raise PrivilegeError(
            "The namespaces of a container that the engine has made can be entered by root alone. "
            "Run as root (sudo), or use nodes of the kind `host`."
        ) from None
    except OSError as error:
        raise EngineError(
            f"The first process of a container has ended: {os.strerror(error.errno or 0)}."
        ) from None


def confinement_of(
    pid: int, *, name: str, user: str, environment: Mapping[str, str], folder: str
) -> Confinement:
    """What the process `pid`, the first of a container, is confined to.

    Raises `EngineError` when it has ended, `PrivilegeError`.
    """
    opened = [open_namespace(pid, kind) for kind in ("pid", *_JOINED)]
    status = Path(f"/proc/{pid}/status").read_text()
    return Confinement(
        name=name,
        pids=opened[0],
        joined=tuple(opened[1:]),
        groups=control_groups(Path(f"/proc/{pid}/cgroup").read_text()),
        capabilities=int(_field(status, "CapBnd"), 16),
        no_new_privileges=_field(status, "NoNewPrivs") == "1",
        user=user,
        environment=environment,
        folder=folder,
    )


def _field(status: str, name: str) -> str:
    found = re.search(rf"^{name}:\s*(\S+)", status, re.MULTILINE)
    return found[1] if found else "0"


def control_groups(told: str, root: Path = _CONTROL_GROUPS) -> tuple[str, ...]:
    """The files by which a process joins the groups that /proc/PID/cgroup tells (cgroups(7)).

    A line is NUMBER:CONTROLLERS:PATH; version 2 has no controllers there, and is mounted at the
    root or, beside version 1, at `unified`.
    """
    found = []
    for line in told.splitlines():
        _, controllers, path = line.split(":", 2)
        name = controllers.removeprefix("name=")
        folders = [name] if name else ["", "unified"]
        files: list[Any] = [root / folder / path.lstrip("/") / "cgroup.procs" for folder in folders]
        found += [str(file) for file in files if file.exists()][:1]
    return tuple(found)
