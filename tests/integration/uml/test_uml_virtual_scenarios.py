"""Every scenario, twice with the same seed and once with another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from every_scenario import names

from testbed.kernel.uml import boot as uml
from testbed.kernel.uml.store import built_kernels
from testbed.scenarios.replaying import compare

pytestmark = pytest.mark.skipif(
    uml.inside() or not any(kernel.current for kernel in built_kernels()),
    reason="needs a kernel of `testbed kernel build`, and a kernel around it",
)

SCRIPT = str(Path(__file__).with_name("every_scenario.py"))
SEEDS = {"first": 1, "again": 1, "other": 2}


def run(folder: Path, seed: int, cells: int) -> None:
    folder.mkdir()
    subprocess.run(
        [
            *(sys.executable, "-m", "testbed.kernel.uml", "--clock", "virtual"),
            *("--seed", str(seed), "-w", str(folder), "--patience", "900", "--"),
            *(sys.executable, SCRIPT, str(folder), str(seed), str(cells)),
        ],
        check=True,
    )


def run_all(base: Path, cells: int) -> Path:
    """A folder of each of the three, with a folder of each scenario in it."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        started = [pool.submit(run, base / name, seed, cells) for name, seed in SEEDS.items()]
        for one in started:
            one.result()
    return base


@pytest.fixture(scope="module")
def first_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_all(tmp_path_factory.mktemp("every"), 1)


def check(base: Path, name: str) -> None:
    first, again, other = (base / which / name for which in SEEDS)
    told = [json.loads((one / "result.json").read_text())["runs"] for one in (first, other)]
    assert compare(first, again).equal, compare(first, again).text
    assert not compare(first, other).equal
    for one, another in zip(*told, strict=True):
        assert one["verdict"] == one["expected"] == another["verdict"], (one, another)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", names())
def test_the_same_seed_gives_the_same_bytes_and_another_the_same_verdict(
    name: str, first_cells: Path
):
    check(first_cells, name)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_whole_matrix_of_every_scenario(tmp_path: Path):
    run_all(tmp_path, 1000)
    for name in names():
        check(tmp_path, name)
