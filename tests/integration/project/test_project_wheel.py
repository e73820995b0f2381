"""A wheel, made from a source distribution, works anywhere, with all the files it needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import testbed
from testbed.kernel.processes.userns import needed

ROOT = Path(__file__).parents[3]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "testbed", "topologies")


def call(*argv: str | Path, folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, target: Path) -> Path:
    """Call a hook of the build backend (PEP 517) in the sources; returns the file it made."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(target)!r}))"
    return target / call(sys.executable, "-c", code, folder=source).splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True)
        else:
            shutil.copy(ROOT / name, source)
    packed = build("sdist", source, folder)
    call(sys.executable, "-m", "tarfile", "-e", packed, folder / "unpacked", folder=folder)
    (unpacked,) = (folder / "unpacked").iterdir()
    return build("wheel", unpacked, folder)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh virtual environment with the wheel, without network.

    What testbed depends on is borrowed from the environment of this test, testbed itself is not:
    an installation for development is a .pth file, which counts in a site folder only.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    call(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, folder=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def test_the_wheel_holds_every_data_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = [*ROOT.glob("topologies/**/*.*"), *ROOT.glob("testbed/kernel/uml/patches/*.patch")]
    data = {path.relative_to(ROOT) for path in wanted if path.suffix != ".py"}
    assert len(data) > 30
    for path in data:
        inside = path if path.parts[0] == "testbed" else Path("testbed", path)
        assert str(inside) in names
    assert "testbed/py.typed" in names
    assert not any(name.endswith("make_lte.py") or name.startswith("topologies") for name in names)


def test_its_metadata_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (one for one in packed.namelist() if one.endswith(".dist-info/METADATA"))
        told = packed.read(name).decode().partition("\n\n")[0].splitlines()
    assert f"Version: {testbed.__version__}" in told
    assert "License-Expression: MIT AND GPL-2.0-only" in told
    assert "License-File: LICENSE" in told


@pytest.mark.skipif(needed(), reason="building labs needs privileges")
def test_it_runs_a_scenario_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    told = call(
        installed / "python", "-c", "import testbed; print(testbed.__file__)", folder=tmp_path
    )
    assert told.startswith(str(installed.parent))
    cell = ("-p", "proxy=off", "-p", "handshake=bare", "--repeat", "1")
    call(installed / "testbed", "run", "docomo", "--clock=real", *cell, folder=tmp_path)
    (result,) = tmp_path.rglob("result.json")
    found = json.loads(result.read_text())
    assert [one["verdict"] for one in found["cells"]] == ["on time"]
    assert found["environment"]["git_revision"] is None
