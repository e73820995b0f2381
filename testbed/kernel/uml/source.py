"""The source of Linux: from Debian's package, a tarball or a folder; patched."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from testbed.errors import KernelError
from testbed.kernel.uml.recipe import OLDEST, patches

_USR_SRC: Final = Path("/usr/src")
_LAST_WORDS: Final = 20


def unpack(version: str, source: Path | None, into: Path) -> Path:
    """Put a source tree below the folder `into` and return its root.

    source: a tarball, or a folder, which is copied. Without one the package `linux-source-VERSION`
    of Debian is taken: from /usr/src where it is installed, or else downloaded by apt, which needs
    no privileges. Raises `KernelError` with the words of the program that failed.
    """
    if source is not None and source.is_dir():
        ignored = shutil.ignore_patterns(".git", "*.o", "*.ko", "*.cmd")
        return Path(shutil.copytree(source, into / "source", symlinks=True, ignore=ignored))
    tarball = _of_debian(version, into) if source is None else source
    if not tarball.is_file():
        raise KernelError(f"There is no source of Linux at {tarball}: name a tarball or a folder.")
    tree = into / "source"
    tree.mkdir()
    _run(["tar", "-xf", str(tarball), "-C", str(tree), "--strip-components=1"], into)
    return tree


def version_of(tree: Path) -> str:
    """The version that a source tree's Makefile tells, as in `6.12.117`.

    Raises `KernelError` where it is no source of Linux, and where it is too old for the patches.
    """
    makefile = tree / "Makefile"
    text = makefile.read_text(errors="replace") if makefile.is_file() else ""
    lines = re.finditer(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*)$", text, re.M)
    told: dict[str, str] = {line[1]: line[2] for line in lines}
    if not {"VERSION", "PATCHLEVEL", "SUBLEVEL"} <= told.keys():
        raise KernelError(f"{tree} is not the source of a Linux kernel: its Makefile does not say.")
    numbers = [told[name] for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    if (int(numbers[0]), int(numbers[1])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise KernelError(
            f"Linux {'.'.join(numbers)} is too old for a virtual clock: use {oldest} or later."
        )
    return ".".join(numbers) + told.get("EXTRAVERSION", "")


def apply_patches(tree: Path, version: str) -> list[str]:
    """Apply the patches of the recipe; the names of the optional ones that do not fit exactly.

    Raises `KernelError` naming another one that does not fit.
    """
    left_out = []
    for path in patches():
        words = ["patch", "--batch", "--strip=1", "--no-backup-if-mismatch", "--input", str(path)]
        optional = "\nOptional: " in path.read_text()
        try:
            if optional:
                _run([*words, "--fuzz=0", "--dry-run"], tree)
            _run(words, tree)
        except KernelError as error:
            if not optional:
                raise KernelError(f"{path.name} does not fit Linux {version}. {error}") from error
            left_out.append(path.name)
    return left_out


def _of_debian(version: str, into: Path) -> Path:
    package = f"linux-source-{version}"
    installed = _USR_SRC / f"{package}.tar.xz"
    if installed.is_file():
        return installed
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise KernelError(
            "There is no apt here, from which the source of Linux would come. "
            "Download a tarball of Linux and name it with --source."
        )
    try:
        _run(["apt-get", "-qq", "download", package], into)
    except KernelError as error:
        raise KernelError(
            f"Debian's package {package} cannot be downloaded. `apt-cache search linux-source` "
            f"lists those there are; another tarball of Linux is named with --source.\n{error}"
        ) from error
    (downloaded,) = into.glob(f"{package}_*.deb")
    _run(["dpkg-deb", "--extract", str(downloaded), str(into / "package")], into)
    downloaded.unlink()
    return into / "package" / installed.relative_to("/")


def _run(words: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        words,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = "\n".join(done.stdout.splitlines()[-_LAST_WORDS:])
        raise KernelError(f"{words[0]} ended with status {done.returncode}:\n{said}")
