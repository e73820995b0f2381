"""A container: a node whose files and programs are those of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from testbed.errors import InvalidValue
from testbed.topology import names
from testbed.topology.kinds.kind import NodeKind
from testbed.topology.kinds.registry import node_kind
from testbed.topology.model import Node, Seconds
from testbed.topology.problems import Problem
from testbed.topology.values import scalars
from testbed.topology.values.shapes import Items, Key, Record, Scalar, Table, choice, text

# capabilities(7), by their numbers.
# fmt: off
CAPABILITIES: Final = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)
# fmt: on

_IMAGE_NAME = r"[a-z0-9][a-z0-9._/:-]*(@sha256:[0-9a-f]{64})?"
_LEAST_MEMORY = 6 << 20  # what the engine itself takes as the least
_MOST_CPUS = 4096


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """A file or folder of this machine that a container has, too; `target` is its path there."""

    source: str
    target: str
    writable: bool = False


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True):
    """When a container is ready: once `command` ends with status 0 in it.

    command: the image's own check where empty. deadline: seconds for it to come to that.
    """

    command: tuple[str, ...] = ()
    deadline: Seconds = 30.0


class ContainerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the keys of a container say; either `image` or `build` is given.

    cpus: processors; memory: bytes; None for no limit.
    """

    image: str | None = None
    build: str | None = None
    pull: bool = False
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    mounts: tuple[Mount, ...] = ()
    capabilities: tuple[str, ...] = ()
    cpus: float | None = None
    memory: float | None = None
    health: HealthCheck | None = None


def container_settings(node: Node) -> ContainerSettings:
    """The settings of a container. Raises `msgspec.ValidationError` for what they cannot be."""
    return msgspec.convert(node.settings, ContainerSettings, strict=True)


def _cpus(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _MOST_CPUS:
        return float(value)
    raise InvalidValue(f"expected a number of processors such as 0.5 or 2, got {value!r}")


def _absolute(value: str) -> str:
    if value.startswith("/") and not {"\0", ":"} & set(value):
        return value
    raise InvalidValue(f"expected an absolute path in the container, got {value!r}")


_IMAGE = text(
    "image-name",
    "the name of an image such as debian:bookworm-slim",
    lambda given: names.parse_name(given, _IMAGE_NAME, "the name of an image"),
    _IMAGE_NAME,
)
_VARIABLE = text(
    "variable",
    "the name of an environment variable",
    lambda given: names.parse_name(given, "[A-Za-z_][A-Za-z0-9_]*", "the name of a variable"),
    "[A-Za-z_][A-Za-z0-9_]*",
)
_TARGET = text("path-inside", "an absolute path in the container", _absolute, "/[^:\\0]*")
_CPUS = Scalar(
    "processors",
    "a number of processors such as 0.5 or 2",
    _cpus,
    {"type": "number", "exclusiveMinimum": 0, "maximum": _MOST_CPUS},
)
_MOUNT = Record(
    "mount",
    "A file or folder of this machine that the container has, too.",
    (
        Key("source", scalars.FILE, "Its name here, relative to this file.", required=True),
        Key("target", _TARGET, "Its path in the container.", required=True),
        Key("writable", scalars.SWITCH, "Whether the container may write.", default="false"),
    ),
    build=Mount,
)
_HEALTH = Record(
    "health",
    "When the container is ready; the lab waits for it.",
    (
        Key(
            "command",
            Items(scalars.TEXT, 1),
            "A program that ends with status 0 in the container once that is ready.",
            default="the image's own check",
        ),
        Key("deadline", scalars.DURATION, "The time for it to come to that.", default="`30s`"),
    ),
    build=HealthCheck,
)


@node_kind("container")
class Container(NodeKind):
    """A host with the files of an image, made by the container engine of this machine."""

    takes = frozenset({"kernel"})
    needs = ("containers",)
    machine_needs = "the container engine"
    keeps_log = True
    keys = (
        Key("image", _IMAGE, "Container: the image, by the name that the engine knows."),
        Key(
            "build",
            scalars.FILE,
            "Container: in place of `image`, a folder with a Dockerfile, relative to this file. "
            "It is built once, and again when something in the folder has changed.",
        ),
        Key(
            "pull",
            scalars.SWITCH,
            "Container: have the engine look for a newer image (with `build`: a newer base).",
            default="false",
        ),
        Key(
            "command",
            Items(scalars.TEXT, 1),
            "Container: program and arguments, in place of the image's command.",
        ),
        Key("environment", Table(_VARIABLE, scalars.TEXT), "Container: environment variables."),
        Key("mounts", Items(_MOUNT), "Container: files and folders of this machine."),
        Key(
            "capabilities",
            Items(choice("capability", CAPABILITIES)),
            "Container: capabilities beyond those that the engine gives, such as `NET_ADMIN`.",
        ),
        Key("cpus", _CPUS, "Container: how many processors it may use."),
        Key("memory", scalars.SIZE, "Container: how much memory it may use."),
        Key("health", _HEALTH, "Container: when it is ready."),
    )

    def with_files_of(self, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Names of files relative to the folder."""
        changed = dict(settings)
        if "build" in settings:
            changed["build"] = str(_inside(folder, settings["build"]))
        if "mounts" in settings:
            changed["mounts"] = tuple(
                msgspec.structs.replace(one, source=str(_inside(folder, one.source)))
                for one in settings["mounts"]
            )
        return changed

    def problems(self, node: Node) -> Iterator[Problem]:
        """Where its files come from must be known and there."""
        try:
            settings = container_settings(node)
        except msgspec.ValidationError as fault:
            yield Problem((), f"the settings of this container cannot be used: {fault}")
            return
        if settings.image is None and settings.build is None:
            yield Problem((), "a container needs `image:` or `build:`")
        elif settings.image is not None and settings.build is not None:
            yield Problem(("build",), "both `image` and `build`; one of them")
        if settings.build is not None and not is_there(Path(settings.build, "Dockerfile")):
            yield Problem(("build",), f"there is no Dockerfile in {settings.build}")
        for index, mount in enumerate(settings.mounts):
            if not is_there(Path(mount.source)):
                yield Problem(("mounts", index, "source"), f"there is no {mount.source}")
            elif ":" in mount.source:
                yield Problem(("mounts", index, "source"), "the engine takes no `:` in it")
        if settings.memory is not None and settings.memory < _LEAST_MEMORY:
            yield Problem(("memory",), f"a container takes at least {_LEAST_MEMORY >> 20} MiB")

    def shown(self, node: Node) -> Iterator[str]:
        """The image and what is asked of it, one line each."""
        settings = container_settings(node)
        yield f"image: {settings.image or settings.build}"
        if settings.command:
            yield f"command: {' '.join(settings.command)}"
        for name in ("capabilities", "cpus", "memory"):
            if value := getattr(settings, name):
                yield f"{name}: {', '.join(value) if isinstance(value, tuple) else f'{value:g}'}"


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder; False for a name that none can have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _inside(folder: Path, name: str) -> Path:
    return (folder / name).absolute()
