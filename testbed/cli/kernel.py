"""`--kernel uml`: the same command on another kernel."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

_OPTION = "--kernel"
_FILE_OPTIONS = ("--out", "-o", "--svg")
_RESULTS = Path("results")


class Kernel(StrEnum):
    """Which kernel a command runs on."""

    HOST = "host"
    UML = "uml"


def rerun(kernel: Kernel, command: str | None) -> int | None:
    """Run this very command line on the kernel and return its status; None to go on here.

    What the command is told to write arrives, and so does the folder of results.
    """
    from testbed.kernel.uml import boot as uml

    if kernel is Kernel.HOST or uml.inside():
        return None
    words = without_option(sys.argv[1:])
    with _writable(words, command) as folders:
        return uml.run_in_uml([sys.executable, "-m", "testbed", *words], writable=folders)


def without_option(words: Sequence[str]) -> list[str]:
    """The command line without the choice of a kernel, which comes before the command."""
    left = list(words)
    for index, word in enumerate(left):
        if word == _OPTION:
            return left[:index] + left[index + 2 :]
        if word.startswith(f"{_OPTION}="):
            return left[:index] + left[index + 1 :]
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
def _writable(words: Sequence[str], command: str | None) -> Iterator[list[Path]]:
    """The folders that have to be there; what stays empty of them is removed again."""
    named = files_named(words)
    if command == "run":
        folders = named or [_RESULTS]
    else:
        folders = [path.parent for path in named]
    made = [folder for folder in folders if not folder.exists()]
    for folder in made:
        folder.mkdir(parents=True)
    try:
        yield folders
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # it is not empty: something was written
                folder.rmdir()
