"""An ordinary user, for the tests of what one may do."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

import testbed

NOBODY = 65534
_ROOT = Path(testbed.__file__).resolve().parent.parent
_NOT_NEEDED = ("numpy*", "matplotlib*", "mypy*", "scapy*", "PIL*", "fontTools*", "hypothesis*",
               "pip*", "setuptools*", "*.dist-info", "__editable__*", "__pycache__")  # fmt: skip

# $1: a folder for the device node, $2: its mode, the rest: the command.
_BECOME_NOBODY = f"""
set -e
mount -t tmpfs none "$1"
mknod -m "$2" "$1/tun" c 10 200
chmod "$2" "$1/tun"
mount --bind "$1/tun" /dev/net/tun
shift 2
exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "$@"
"""


class OrdinaryUser:
    """Runs Python as nobody, in a mount namespace with a /dev/net/tun of its own.

    copied: whether it runs a copy of testbed, which is not installed.
    """

    def __init__(
        self, python: str, search: str, home: Path, mounts: Path, *, copied: bool = False
    ) -> None:
        self.python = python
        self.copied = copied
        self.home = home
        self._mounts = mounts
        self._environment = {**os.environ, "PYTHONPATH": search, "HOME": str(home)}

    def run(
        self,
        *arguments: str,
        tun_mode: str = "0666",
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """`python *arguments`, started through `prefix`, in the home directory."""
        become = ["unshare", "--mount", "--propagation", "private", "bash", "-c", _BECOME_NOBODY]
        return subprocess.run(
            [*become, "bash", str(self._mounts), tun_mode, *prefix, self.python, *arguments],
            cwd=self.home,
            env={**self._environment, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def reaches_testbed(self) -> bool:
        return self.run("-c", "import testbed.lab").returncode == 0


@contextlib.contextmanager
def ordinary_user() -> Iterator[OrdinaryUser]:
    """Nobody, with an interpreter and a copy of testbed that nobody can reach."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user takes root")
    if not Path("/dev/net/tun").exists():
        pytest.skip("there is no /dev/net/tun to mount another one over")
    with tempfile.TemporaryDirectory(prefix="testbed-nobody-") as folder:
        base = Path(folder)
        base.chmod(0o755)
        home, mounts = base / "home", base / "mounts"
        home.mkdir()
        mounts.mkdir()
        os.chown(home, NOBODY, NOBODY)
        user = OrdinaryUser(sys.executable, str(_ROOT), home, mounts)
        if not user.reaches_testbed():
            user = OrdinaryUser(
                _reachable_python(), _copy(base / "copy"), home, mounts, copied=True
            )
        tried = user.run("-c", "import testbed.lab")
        if tried.returncode != 0:
            pytest.skip(f"an ordinary user cannot run testbed here: {tried.stderr[-500:]}")
        yield user


def _reachable_python() -> str:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    path = f"/usr/bin/python{version}"
    if not Path(path).exists():
        pytest.skip(f"an ordinary user can reach neither {sys.executable} nor a {path}")
    return path


def _copy(target: Path) -> str:
    """Copies of testbed and of what it needs; returns a PYTHONPATH."""
    packages = target / "packages"
    source = Path(sysconfig.get_path("purelib"))
    shutil.copytree(source, packages, ignore=shutil.ignore_patterns(*_NOT_NEEDED))
    shutil.copytree(_ROOT / "testbed", target / "testbed")
    return f"{target}{os.pathsep}{packages}"
