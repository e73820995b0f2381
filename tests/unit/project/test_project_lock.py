"""requirements.lock: what pyproject.toml asks for, pinned and hashed, no host named."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
LOCK = (ROOT / "requirements.lock").read_text()
ENTRY = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?: ; (?P<marker>[^\\]+))?"
    r"(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEEDED_TO_RUN = PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"]
OPTIONAL = PROJECT["project"]["optional-dependencies"]


def pinned(text: str, python: str) -> dict[str, str]:
    """The versions that pip installs on Linux for a Python like 3.11."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_python_implementation": "CPython",
    }
    return {
        one["name"]: one["version"]
        for one in ENTRY.finditer(text)
        if one["marker"] is None or Marker(one["marker"]).evaluate(environment)
    }


def test_there_is_nothing_but_pinned_and_hashed_packages() -> None:
    entries = re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE)
    assert ENTRY.sub("", entries) == ""


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("runs", [True, False], ids=["run", "develop"])
def test_what_is_pinned_lies_within_the_ranges(python: str, runs: bool) -> None:
    versions = pinned(LOCK.partition("# -- development --")[0] if runs else LOCK, python)
    wanted = NEEDED_TO_RUN + ([] if runs else OPTIONAL["dev"] + OPTIONAL["docs"])
    for one in map(Requirement, wanted):
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        assert versions.get(name, "nothing") in one.specifier, f"{one}: run `make lock`"


def test_every_range_ends() -> None:
    for one in map(Requirement, itertools.chain(NEEDED_TO_RUN, *OPTIONAL.values())):
        if one.name == "setuptools":  # any release that knows SPDX licenses
            continue
        operators = {specifier.operator for specifier in one.specifier}
        assert operators >= {">=", "<"}, one
