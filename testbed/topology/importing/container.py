"""What files of several tools say of a container, as the keys of `kind: container`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from testbed.errors import InvalidValue
from testbed.topology import names, units
from testbed.topology.importing.foreign import Part
from testbed.topology.kinds.container import CAPABILITIES, is_there
from testbed.wording import quote

#: Docker's, where a file says nothing: seconds, seconds, and failures in a row.
_INTERVAL, _TIMEOUT, _RETRIES = 30.0, 30.0, 3
_NUMBER: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?\Z")
_DURATION: Final = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ns|us|ms|s|m|h))+\Z")
_STEP: Final = re.compile(r"([0-9.]+)(ns|us|ms|s|m|h)")
_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_MEMORY: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([kmgt]?)(?:i?b)?\Z", re.IGNORECASE)
_MOST_MEMORY: Final = 1 << 40
_MODES: Final = frozenset({"ro", "rw"})
_LABELS: Final = frozenset({"z", "Z"})  # of SELinux


def environment(parts: Iterable[Part]) -> dict[str, str]:
    """Variables, as mappings or as lists of `NAME=value`; later parts override."""
    found: dict[str, str] = {}
    for part in parts:
        if part.is_list:
            for item in part.items():
                text = item.text()
                name, equals, value = (text or "").partition("=")
                if text is not None and not equals:
                    _from_outside(item, name)
                elif text is not None:
                    found[name] = value
            continue
        for name, entry in part.entries().items():
            if entry.is_null:
                _from_outside(entry, name)
            elif name.startswith("__"):
                entry.leave_out("a word of the other tool, not a variable")
            elif (text := entry.text()) is not None:
                found[name] = text
    return found


def _from_outside(part: Part, name: str) -> None:
    part.leave_out(f"no value of {quote(name)} is given, and the environment is not looked up")


def sysctls(parts: Iterable[Part]) -> dict[str, str]:
    """Kernel settings of the network, as mappings or as lists of `name=value`."""
    found: dict[str, str] = {}
    for part in parts:
        pairs: list[tuple[Part, str, str | None]]
        if part.is_list:
            pairs = [(item, *_halves(item)) for item in part.items()]
        else:
            pairs = [(entry, name, entry.text()) for name, entry in part.entries().items()]
        for where, name, value in pairs:
            if value is None:
                continue
            try:
                found[names.parse_sysctl_name(name)] = value
            except InvalidValue as error:
                where.leave_out(str(error))
    return found


def _halves(item: Part) -> tuple[str, str | None]:
    text = item.text()
    if text is None:
        return "", None
    name, _, value = text.partition("=")
    return name, value


def mount(part: Part, *, volumes: bool) -> dict[str, Any] | None:
    """`SOURCE:TARGET[:MODE]` as a mount of a file or folder; None where it is something else.

    volumes: whether a source that begins with neither `.` nor `/` is a volume of the engine.
    """
    text = part.text()
    if text is None:
        return None
    source, *rest = text.split(":")
    if not rest or len(rest) > 2:
        part.leave_out("it names no file or folder of this machine")
        return None
    if volumes and not source.startswith((".", "/", "~")):
        part.leave_out(f"{quote(source)} is a volume of the engine; name a folder by its path")
        return None
    modes = set(rest[1].split(",")) if len(rest) > 1 else set()
    for unknown in sorted(modes - _MODES - _LABELS):
        part.note(f"the option {quote(unknown)} is left out: a mount is writable or it is not")
    return local_mount(part, source, rest[0], writable="ro" not in modes)


def local_mount(part: Part, source: str, target: str, *, writable: bool) -> dict[str, Any] | None:
    """A mount of something of this machine; None, with a remark, where that is not there."""
    if source.startswith(("~", "__")):
        part.leave_out(f"{quote(source)} is no path; write it out")
        return None
    path, name = part.file.local(source)
    if not is_there(path):
        part.leave_out(f"there is no {path}")
        return None
    return {"source": name, "target": target} | ({"writable": True} if writable else {})


def capabilities(part: Part) -> list[str]:
    """The capabilities that are to be added, by the names of capabilities(7)."""
    found = []
    for item in part.items():
        text = item.text()
        if text is None:
            continue
        name = text.upper().removeprefix("CAP_")
        if name in CAPABILITIES:
            found.append(name)
        elif name == "ALL":
            item.leave_out("a container has the capabilities that are named; name those it needs")
        else:
            item.fault(f"there is no capability {quote(text)}")
    return found


def memory(part: Part) -> str | None:
    """`512m` or `1gb`, powers of 1024 as Docker has them, in our words."""
    return part.parsed(_size)


def _size(text: str) -> str:
    parts = _MEMORY.match(text)
    if parts is None:
        raise InvalidValue(f"expected an amount of memory such as 512m, got {quote(text)}")
    size = int(float(parts[1]) * 1024 ** " kmgt".index(parts[2].lower() or " "))
    if not 0 < size <= _MOST_MEMORY:
        raise InvalidValue(f"expected up to {units.format_size(_MOST_MEMORY)}, got {quote(text)}")
    return f"{size}B" if size % 1024 else units.format_size(size)


def processors(part: Part) -> float | None:
    """A number of processors."""
    return part.parsed(_number)


def _number(text: str) -> float:
    if not _NUMBER.match(text):
        raise InvalidValue(f"expected a number, got {quote(text)}")
    return float(text)


def health(part: Part) -> dict[str, Any] | None:
    """When the container is ready, and the latest moment at which Docker would call it unhealthy:
    after the start period, and as many failures in a row, each after an interval."""
    keys = part.entries()
    if (off := keys.pop("disable", None)) is not None and off.switch():
        return None
    found: dict[str, Any] = {}
    if (test := keys.pop("test", None)) is not None:
        command = _test(test)
        if command is None:
            return None
        found["command"] = command
    grace = _seconds(keys, ("start_period", "start-period"), 0.0)
    each = _seconds(keys, ("interval",), _INTERVAL) + _seconds(keys, ("timeout",), _TIMEOUT)
    times = keys.pop("retries", None)
    retries = (times.parsed(_number) if times is not None else None) or _RETRIES
    for entry in keys.values():
        entry.leave_out("the lab asks by itself until the check succeeds for the first time")
    return found | {"deadline": units.format_duration(grace + each * retries)}


def _test(part: Part) -> list[str] | None:
    """The command of a check; None where there is none."""
    if not part.is_list:
        text = part.text()
        return ["/bin/sh", "-c", text] if text else None
    how, *words = part.words() or [""]
    if how == "NONE":
        return None
    if how == "CMD" and words:
        return words
    if how == "CMD-SHELL" and len(words) == 1:
        return ["/bin/sh", "-c", words[0]]
    part.fault("expected a list that begins with CMD, CMD-SHELL or NONE, or text for a shell")
    return None


def _seconds(keys: dict[str, Part], aliases: Iterable[str], default: float) -> float:
    for name in aliases:
        if (part := keys.pop(name, None)) is not None:
            return part.parsed(_duration) or 0.0
    return default


def _duration(text: str) -> float:
    """Seconds of `1m30s` (Go's time.ParseDuration), or of a bare number of seconds."""
    if _DURATION.match(text):
        return sum(float(number) * _SECONDS[unit] for number, unit in _STEP.findall(text))
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    raise InvalidValue(f"expected a time such as 1m30s, got {quote(text)}")


def without_empty(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say something."""
    return {key: value for key, value in settings.items() if value not in (None, [], {}, "")}
