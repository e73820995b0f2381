"""The installation that the Makefile makes works beside the clone, whatever the clone's name."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[3]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "testbed", "topologies")
MAKEFILE = (ROOT / "Makefile").read_text()


def editable() -> list[str]:
    """How the Makefile has pip install the clone."""
    (words,) = re.findall(r"^EDITABLE := (.*)$", MAKEFILE, re.MULTILINE)
    return words.split()


def test_every_recipe_installs_the_clone_in_the_same_way() -> None:
    recipes = [
        line for line in MAKEFILE.splitlines() if re.search(r"(?i)install\b.* '?\.(\[|$)", line)
    ]
    assert len(recipes) == 3
    assert all("$(EDITABLE)" in line for line in recipes)


def test_a_script_beside_a_clone_named_testbed_imports_the_package(tmp_path: Path) -> None:
    clone = tmp_path / "testbed"
    clone.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name, symlinks=True)
        else:
            shutil.copy(ROOT / name, clone)
    venv.create(tmp_path / "environment", symlinks=True)
    python = tmp_path / "environment" / "bin" / "python"
    (site,) = tmp_path.glob("environment/lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index")
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", *editable(), clone], check=True)
    (tmp_path / "first.py").write_text("from testbed import Lab; print(Lab)")
    done = subprocess.run(
        [python, "first.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("<class 'testbed.lab.lab.Lab'>\n", "")
