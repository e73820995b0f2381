"""Which kernel a command runs in, and by which clock: `--kernel`, `--clock`, `--seed`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from testbed.errors import KernelError
from testbed.kernel.clock import USUAL_SEED, ClockName

if TYPE_CHECKING:
    from testbed.kernel.uml.kernels import Bootable

HOST, UML = "host", "uml"
_CLOCKS: dict[str, ClockName] = {"real": "real", "virtual": "virtual"}
_OPTIONS = ("--kernel", "--clock", "--seed")
_FILE_OPTIONS = ("--out", "-o", "--svg", "--write")
#: These commands ask for a kernel and a clock themselves, or need none.
_ON_THEIR_OWN = frozenset({"run", "conformance", "replay", "exec", "kernel"})
#: These are about labs that live on, in this machine's kernel.
_OF_LIVING_LABS = frozenset(
    {"up", "ls", "down", "shell", "events", "set", "cut", "restore", "function", "show", "capture"}
)

KernelOption = Annotated[
    str | None,
    typer.Option(
        metavar="host|uml|VERSION",
        help="Run in this machine's kernel, in Debian's User-Mode Linux, or in a kernel of "
        "`testbed kernel build`: without root, with all of the kernel's queue disciplines and "
        "congestion controls.",
    ),
]


def _clock(word: str) -> ClockName:
    if word not in _CLOCKS:
        raise typer.BadParameter(f"'{word}' is neither real nor virtual.")
    return _CLOCKS[word]


ClockOption = Annotated[
    Literal["real", "virtual"] | None,
    typer.Option(
        parser=_clock,
        metavar="real|virtual",
        envvar="TESTBED_CLOCK",
        show_envvar=True,
        help="Run labs by the real clock, or by a virtual one: exact times, the same packets in "
        "every run, hours in seconds. It takes a kernel of `testbed kernel build`; where there is "
        "one, `testbed run` takes it unless told otherwise.",
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help=f"The seed of all that is random by the virtual clock ({USUAL_SEED} by default), or "
        "of the links alone by the real one.",
    ),
]


@dataclass(frozen=True)
class KernelChoice:
    """What the command line says of kernel, clock and seed; None where it says nothing."""

    kernel: str | None = None
    clock: Literal["real", "virtual"] | None = None
    seed: int | None = None

    def overridden_by(self, later: KernelChoice) -> KernelChoice:
        """This choice with what the options of the command itself say instead."""
        kernel = self.kernel if later.kernel is None else later.kernel
        seed = self.seed if later.seed is None else later.seed
        return KernelChoice(kernel, later.clock or self.clock, seed)

    def preferring_virtual(self, machine_needs: str, versions: Sequence[str]) -> KernelChoice:
        """By the virtual clock where nothing is said of the clock and a kernel for it is there.

        machine_needs: what keeps all other kernels out, if anything does. versions: of the
        kernels that are compared. A kernel of other patches or settings than this testbed's is
        taken only where it is asked for.
        """
        from testbed.kernel.uml import boot
        from testbed.kernel.uml.store import built_kernels

        if self.clock or machine_needs or self.kernel in (HOST, UML) or boot.inside():
            return self
        current = [kernel for kernel in built_kernels() if kernel.current]
        wanted = versions or ([] if self.kernel is None else [self.kernel])
        there = all(any(kernel.is_meant_by(one) for kernel in current) for one in wanted)
        return replace(self, clock="virtual") if current and there else self

    @property
    def clock_name(self) -> ClockName:
        return self.clock or "real"

    @property
    def seed_in_force(self) -> int | None:
        return USUAL_SEED if self.seed is None and self.clock == "virtual" else self.seed

    def kernels(self, versions: Sequence[str] = ()) -> dict[str, str]:
        """Names of built kernels by what the user calls them, "" for Debian's; none for here.

        versions: where several are compared. Raises `KernelError` for what is not there and for
        what cannot be.
        """
        from testbed.kernel.uml import boot
        from testbed.kernel.uml.store import find_kernel

        if boot.inside():  # the choice was made outside
            return {}
        if versions:
            return {version: find_kernel(version).name for version in versions}
        if self.clock == "virtual" and self.kernel == HOST:
            raise KernelError(
                "The clock of this machine's own kernel is real. Leave out `--kernel host`, or "
                "use `--clock real`."
            )
        if self.clock == "virtual" and self.kernel == UML:
            raise KernelError(
                "The clock of Debian's User-Mode Linux is real. Leave out `--kernel uml`, or use "
                "`--clock real`."
            )
        if self.clock == "virtual" and self.kernel is None:
            found = find_kernel()
            return {found.version: found.name}
        if self.kernel in (None, HOST):
            return {}
        return {UML: ""} if self.kernel == UML else {self.kernel: find_kernel(self.kernel).name}

    def bootable(self) -> Bootable | None:
        """The one kernel to boot, None for this machine's own."""
        from testbed.kernel.uml.kernels import choose_kernel

        for name in self.kernels().values():
            return choose_kernel(name or None, self.clock_name, self.seed_in_force)
        return None


def rerun(choice: KernelChoice, command: str | None) -> int | None:
    """Run this very command line in the kernel and return its status; None to go on here.

    What the command is told to write arrives. Commands that do not run labs ask for no clock.
    """
    if choice.kernel in (None, HOST) or command in _ON_THEIR_OWN:
        return None
    if command in _OF_LIVING_LABS:
        raise KernelError(
            f"`testbed {command}` is about labs that live on, and another kernel ends with its "
            "command. Leave out `--kernel`."
        )
    from testbed.kernel.uml import boot as uml

    if uml.inside():
        return None
    words = without_options(sys.argv[1:])
    with writable([path.parent for path in files_named(words)]) as folders:
        return uml.run_in_uml(
            [sys.executable, "-m", "testbed", *words],
            kernel=choice.bootable(),
            writable=folders,
        )


def without_options(words: Sequence[str]) -> list[str]:
    """The command line without the choice of a kernel, as far as it comes before the command."""
    left = list(words)
    while left and left[0].startswith("-"):
        option, sign, _ = left[0].partition("=")
        if option not in _OPTIONS:
            break
        left = left[1:] if sign else left[2:]
    return left


def files_named(words: Sequence[str]) -> list[Path]:
    """The files and folders that the command line names to write to."""
    named = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, sign, value = word.partition("=")
        if option in _FILE_OPTIONS and (value or (not sign and following)):
            named.append(Path(value or following))
    return named


@contextlib.contextmanager
def writable(folders: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """The folders, made where they are not there; what stays empty of these is removed again."""
    made = [folder for folder in folders if not folder.exists()]
    for folder in made:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folders
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # it is not empty: something was written
                folder.rmdir()
