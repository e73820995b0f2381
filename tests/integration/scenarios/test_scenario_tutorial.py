"""The scenario that docs/write-a-scenario.md makes is one that runs."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from testbed.scenarios import Scenario, run
from testbed.scenarios.show import render
from testbed.topology.yaml.load import load

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="needs root and /dev/net/tun",
)

PAGE = Path(__file__).parents[3] / "docs" / "write-a-scenario.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.smoke
def test_the_scenario_of_the_page_comes_out_as_it_says(tmp_path):
    (_, yaml), (_, code), (_, printed) = BLOCK.findall(PAGE.read_text())[:3]
    (tmp_path / "nagle.yaml").write_text(yaml)
    (tmp_path / "nagle.py").write_text(code)
    spec = importlib.util.spec_from_file_location("nagle", tmp_path / "nagle.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scenario = module.nagle.scenario
    assert isinstance(scenario, Scenario)
    topology = load(tmp_path / "nagle.yaml")
    assert topology.scenario == scenario.name
    outcome = run(scenario, topology, parameters={}, out=tmp_path / "results")
    assert outcome.result.passed, outcome.result.runs
    with (tmp_path / "shown").open("w") as file:
        console = Console(file=file, width=100)
        for block in render(scenario, outcome, 100):
            console.print(block)
    shown = (tmp_path / "shown").read_text()
    assert without_numbers(shown) == without_numbers(printed)


def without_numbers(text: str) -> list[str]:
    """The lines of a table with its measured values taken out, and the kernel's name."""
    measured = re.compile(r" +[0-9.]+ │")
    kernel = re.compile(r"(real|virtual): Linux \S+")
    return [kernel.sub("", measured.sub(" │", line.rstrip())) for line in text.splitlines()]
