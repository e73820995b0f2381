"""Builds a kernel for the virtual clock, once for each version, into the user's cache.

Everything happens in a folder beside the finished kernels, which vanishes whatever happens; a
finished kernel appears in one step.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from testbed.errors import KernelError, MissingProgram
from testbed.kernel.processes.process import find_program
from testbed.kernel.uml.recipe import CONFIGURATION, recipe_digest
from testbed.kernel.uml.source import apply_patches, unpack, version_of
from testbed.kernel.uml.store import ABOUT, PROGRAM, About, BuiltKernel, built_kernels, store

USUAL_VERSION: Final = "6.12"

_PACKAGES: Final = {  # of Debian, by program
    "gcc": "gcc",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "xz": "xz-utils",
    "tar": "tar",
    "patch": "patch",
}
_ROOM: Final = 3 << 30
_USUAL_STEPS: Final = 1640  # lines that make prints for Linux 6.12: for the time that is left
_NICENESS: Final = 10
_LAST_WORDS: Final = 25
_NEEDED: Final = ("CONFIG_UML_TIME_TRAVEL_SUPPORT", "CONFIG_INET", "CONFIG_VETH")
_WORKSHOP: Final = ".building-"
# Without these the banner of the kernel, which goes into its randomness, would tell when and
# where it was built.
_REPRODUCIBLE: Final = {
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_VERSION": "1",
    "KBUILD_BUILD_USER": "testbed",
    "KBUILD_BUILD_HOST": "testbed",
}


class Progress(Protocol):
    """Called as a build goes on."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """stage: in words; done: steps of about `total`, 0 of 0 where they are not counted."""


def build(
    version: str = USUAL_VERSION,
    *,
    source: Path | None = None,
    again: bool = False,
    jobs: int | None = None,
    progress: Progress,
) -> BuiltKernel:
    """Build a kernel and return it; one that is there already is returned as it is.

    version: what Debian's package of sources is named after. source: a tarball or a folder of
    Linux to build instead. again: build in any case. jobs: how many compilers run at a time, one
    for each processor by default.

    Raises `MissingProgram` for missing tools, naming the command that installs them, and
    `KernelError` with the last words of a build that failed, of which nothing is left.
    """
    if source is None and not again:
        for kernel in built_kernels():
            if kernel.current and kernel.is_meant_by(version):
                return kernel
    _require_tools()
    with _workshop() as workshop:
        progress("fetch and unpack the source", 0, 0)
        tree = unpack(version, source, workshop)
        found = version_of(tree)
        progress("apply the patches", 0, 0)
        left_out = apply_patches(tree, found)
        began = time.monotonic()
        _configure(tree, progress)
        _compile(tree, jobs or len(os.sched_getaffinity(0)), progress)
        about = About(
            version=found,
            recipe=recipe_digest(),
            left_out=left_out,
            compiler=_compiler(),
            seconds=round(time.monotonic() - began, 1),
        )
        return _place(tree, about, workshop)


def _require_tools() -> None:
    missing = []
    for program, package in _PACKAGES.items():
        try:
            find_program(program)
        except MissingProgram:
            missing.append(package)
    if "gcc" not in missing and not _has_c_library():
        missing.append("libc6-dev")
    if missing:
        raise MissingProgram(
            f"To build a kernel these Debian packages are missing: {', '.join(missing)}. "
            f"Install them: apt-get install {' '.join(missing)}"
        )


def _has_c_library() -> bool:
    told = subprocess.run(
        ["gcc", "-print-file-name=crt1.o"], capture_output=True, text=True, check=False
    )
    return Path(told.stdout.strip()).is_absolute()


@contextlib.contextmanager
def _workshop() -> Iterator[Path]:
    """A folder of one build; what a killed build left is removed first."""
    folder = store()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KernelError(
            f"The folder of kernels {folder} cannot be made: {error.strerror}. "
            "Name another parent in the environment variable XDG_CACHE_HOME."
        ) from None
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KernelError("Another build of a kernel is running; wait for its end.") from None
        for left in folder.glob(f"{_WORKSHOP}*"):
            shutil.rmtree(left)
        free = shutil.disk_usage(folder).free
        if free < _ROOM:
            raise KernelError(
                f"To build a kernel {_ROOM >> 30} GiB must be free in {folder}, and there are "
                f"{free / (1 << 30):.1f}. Make room, or set XDG_CACHE_HOME to another place."
            )
        with tempfile.TemporaryDirectory(prefix=_WORKSHOP, dir=folder) as workshop:
            yield Path(workshop)


def _configure(tree: Path, progress: Progress) -> None:
    progress("configure", 0, 0)
    _make(tree, ["mrproper"])
    _make(tree, [f"KCONFIG_ALLCONFIG={CONFIGURATION}", "allnoconfig"])
    got = (tree / ".config").read_text()
    lacking = [name for name in _NEEDED if f"{name}=y\n" not in got]
    if lacking:
        raise KernelError(f"This source of Linux does not grant {', '.join(lacking)}.")


def _compile(tree: Path, jobs: int, progress: Progress) -> None:
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        progress("compile", done, max(done, _USUAL_STEPS))

    progress("compile", 0, _USUAL_STEPS)
    _make(tree, [f"-j{jobs}", PROGRAM], count)


def _make(tree: Path, words: Sequence[str], step: Callable[[], None] | None = None) -> None:
    """Run make to its end; step: called for every line of its output.

    Raises `KernelError` with what the compiler said.
    """
    # Some settings of a shell that builds other software would lead make astray.
    strange = ("ARCH", "SUBARCH", "CROSS_COMPILE", "MAKEFLAGS", "MAKELEVEL", "KBUILD_OUTPUT")
    kept = {name: value for name, value in os.environ.items() if name not in strange}
    process = subprocess.Popen(
        ["make", "ARCH=um", *words],
        cwd=tree,
        env={**kept, **_REPRODUCIBLE, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
        preexec_fn=lambda: os.nice(_NICENESS),
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            if step is not None:
                step()
        status = process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
    if status != 0:
        raise KernelError(f"make {words[-1]} ended with status {status}:\n{_complaints(lines)}")


def _complaints(lines: Sequence[str]) -> str:
    """The lines that tell of errors, each with what follows, or the last lines if none does."""
    telling = [
        number for number, line in enumerate(lines) if re.search(r"\berror\b|\*\*\*", line, re.I)
    ]
    begin = min(telling, default=len(lines) - _LAST_WORDS)
    return "\n".join(lines[max(0, begin) :][:_LAST_WORDS])


def _compiler() -> str:
    told = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=False)
    return told.stdout.partition("\n")[0]


def _place(tree: Path, about: About, workshop: Path) -> BuiltKernel:
    """Move the finished kernel to its name in the store, in one step."""
    made = workshop / "made"
    made.mkdir()
    shutil.copy2(tree / PROGRAM, made / PROGRAM)
    shutil.copy2(tree / ".config", made / "config")
    subprocess.run(["strip", str(made / PROGRAM)], check=False)
    (made / ABOUT).write_bytes(msgspec.json.format(msgspec.json.encode(about), indent=2))
    target = store() / about.name
    if target.exists():
        target.rename(workshop / "replaced")
    made.rename(target)
    return BuiltKernel(target, about)
