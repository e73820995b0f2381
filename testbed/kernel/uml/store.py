"""The kernels that this user has built: each one a folder in the user's cache.

A folder is named after the version of Linux and the digest of patches and configuration. It
holds the kernel `linux`, its `config` and `about.json`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from testbed.errors import KernelError
from testbed.kernel.uml.recipe import recipe_digest

BUILD_COMMAND: Final = "testbed kernel build"
ABOUT: Final = "about.json"
PROGRAM: Final = "linux"


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a built kernel; written to `about.json`.

    version: of Linux. recipe: the digest of patches and configuration; left_out: optional patches
    that do not fit this version. compiler: its first line of words. seconds: how long configuring
    and compiling took.
    """

    version: str
    recipe: str
    left_out: list[str] = []
    compiler: str
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.version}-{self.recipe}"


class BuiltKernel(msgspec.Struct, frozen=True):
    """A kernel in the store."""

    folder: Path
    about: About

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def version(self) -> str:
        return self.about.version

    @property
    def program(self) -> Path:
        return self.folder / PROGRAM

    @property
    def current(self) -> bool:
        """Whether it was made with the patches and the configuration of this very testbed."""
        return self.about.recipe == recipe_digest()

    def is_meant_by(self, wanted: str) -> bool:
        """Whether a name, a version, or the beginning of a version such as 6.12 means it."""
        return wanted in (self.name, self.version) or self.version.startswith(f"{wanted}.")


def store() -> Path:
    """The folder of all built kernels; it need not exist."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if cache.startswith("/") else Path.home() / ".cache"
    return base / "testbed" / "kernels"


def built_kernels() -> tuple[BuiltKernel, ...]:
    """All of them, the one to prefer first: current ones before others, later before earlier."""
    return tuple(sorted(_kernels(), key=_preference, reverse=True))


def find_kernel(wanted: str | None = None) -> BuiltKernel:
    """The kernel to prefer among all, or among those that a version or a name means.

    Raises `KernelError` with the command that builds one.
    """
    known = built_kernels()
    for kernel in known:
        if wanted is None or kernel.is_meant_by(wanted):
            return kernel
    if wanted is None:
        raise KernelError(
            "No kernel with a virtual clock has been built by this user. "
            f"Build one, which takes minutes: {BUILD_COMMAND}"
        )
    there = ", ".join(kernel.name for kernel in known) or "none"
    raise KernelError(
        f"No kernel '{wanted}' has been built by this user (there are: {there}). "
        f"Build it: {BUILD_COMMAND} {wanted}"
    )


def remove_kernel(name: str) -> BuiltKernel:
    """Remove a kernel by its full name. Raises `KernelError` where there is none of the name."""
    for kernel in built_kernels():
        if kernel.name == name:
            shutil.rmtree(kernel.folder)
            return kernel
    there = ", ".join(kernel.name for kernel in built_kernels()) or "none"
    raise KernelError(f"There is no kernel named '{name}' in {store()}. There are: {there}.")


def _kernels() -> Iterator[BuiltKernel]:
    for file in store().glob(f"[!.]*/{ABOUT}"):
        yield BuiltKernel(file.parent, msgspec.json.decode(file.read_bytes(), type=About))


def _preference(kernel: BuiltKernel) -> tuple[bool, list[int], str]:
    numbers = [int(part) for part in kernel.version.split(".") if part.isdecimal()]
    return kernel.current, numbers, kernel.name
