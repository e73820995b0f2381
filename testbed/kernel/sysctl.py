"""Sysctls of the calling thread's network namespace (/proc/sys/net)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from testbed.errors import KernelError, PrivilegeError, ReadBackError
from testbed.wording import suggestion

_ROOT = Path("/proc/sys")


@cache
def path_of(name: str) -> Path:
    """`net.ipv4.tcp_sack` -> /proc/sys/net/ipv4/tcp_sack; a `/` stands for a dot in a name."""
    return _ROOT / "/".join(part.replace("/", ".") for part in name.split("."))


def read(name: str) -> str:
    """The value as one line of text, fields separated by single spaces.

    Raises `KernelError` for a name that this kernel does not have, or that cannot be read.
    """
    try:
        return " ".join(path_of(name).read_text(errors="replace").split())
    except (FileNotFoundError, NotADirectoryError):
        raise _unknown(name) from None
    except OSError as error:
        raise KernelError(
            f"The sysctl {name} cannot be read: {os.strerror(error.errno or 0)}."
        ) from None


def write(values: Mapping[str, str]) -> None:
    """Set several sysctls in order, and read each back.

    Raises `KernelError` for a name that this kernel does not have (or has for the whole machine
    only) and for a value that it refuses; `ReadBackError` when it took another value than asked.
    """
    for name, value in values.items():
        _write_one(name, value)


def missing(values: Mapping[str, str]) -> dict[str, str]:
    """Those of `values` that the calling thread's namespace does not have already."""
    return {name: value for name, value in values.items() if read(name).split() != value.split()}


def known(values: Mapping[str, str]) -> dict[str, str]:
    """Those of `values` whose names the calling thread's namespace has."""
    return {name: value for name, value in values.items() if path_of(name).is_file()}


def _write_one(name: str, value: str) -> None:
    try:
        fd = os.open(path_of(name), os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise _unknown(name) from None
    except PermissionError:
        raise PrivilegeError(
            f"The sysctl {name} may not be written here. Inside a namespace it may be read-only, "
            "or settable for the whole machine only."
        ) from None
    try:
        os.write(fd, value.encode())
        found = os.pread(fd, 4096, 0).decode(errors="replace")
    except OSError as error:
        raise KernelError(
            f"The kernel refused the value '{value}' for the sysctl {name}: "
            f"{os.strerror(error.errno or 0)}."
        ) from None
    finally:
        os.close(fd)
    if found.split() != value.split():
        raise ReadBackError(
            f"The sysctl {name} was set to '{value}' but reads '{' '.join(found.split())}'."
        )


def _unknown(name: str) -> KernelError:
    """An error that names the nearest sysctl there is in the same folder."""
    folder = path_of(name).parent
    known = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return KernelError(
        f"There is no sysctl {name} in a network namespace of this kernel "
        f"({os.uname().release}){suggestion(path_of(name).name, known) or '.'}"
    )
