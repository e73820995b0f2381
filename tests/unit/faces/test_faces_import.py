"""`testbed import` as its user meets it: the examples, what is said, and what is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from testbed.cli.app import app
from testbed.errors import TestbedError
from testbed.topology.yaml.load import load, loads

EXAMPLES = Path(__file__).parents[3] / "examples" / "import"


@pytest.mark.parametrize(
    ("tool", "file", "nodes", "left_out"),
    [
        ("containerlab", "ring.clab.yml", ["left", "right", "far", "lan"], 4),
        ("compose", "compose.yaml", ["web", "api", "front", "back"], 9),
    ],
)
def test_the_examples_become_topologies(tool, file, nodes, left_out, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    done = CliRunner().invoke(app, ["import", tool, file])
    assert done.exit_code == 0
    assert list(loads(done.stdout).nodes) == nodes
    said = done.stderr.splitlines()
    assert len(said) == left_out
    assert all(line.startswith(f"testbed: {file}:") for line in said)


def test_names_of_files_are_those_of_the_folder_that_is_written_to(tmp_path):
    out = tmp_path / "shop.yaml"
    done = CliRunner().invoke(
        app, ["import", "compose", str(EXAMPLES / "compose.yaml"), "-o", str(out)]
    )
    assert (done.exit_code, done.stdout) == (0, "")
    (mount,) = load(out).nodes["web"].settings["mounts"]
    assert Path(mount.source).resolve() == EXAMPLES / "page"


def test_what_makes_no_topology_is_not_written(tmp_path):
    file, out = tmp_path / "compose.yaml", tmp_path / "out.yaml"
    networks = "one: {ipam: {config: [{subnet: 10.1.0.0/24}]}}"
    twice = networks + ", " + networks.replace("one", "two")
    file.write_text(f"services: {{a: {{image: i, networks: [one, two]}}}}\nnetworks: {{{twice}}}")
    done = CliRunner().invoke(app, ["import", "compose", str(file), "-o", str(out)])
    assert isinstance(done.exception, TestbedError)
    assert "compose.yaml, imported:" in str(done.exception)
    assert not out.exists()


def test_the_page_shows_what_the_example_gives(monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    done = CliRunner().invoke(app, ["import", "compose", "compose.yaml"])
    page = (EXAMPLES.parents[1] / "docs" / "import.md").read_text()
    for text in (Path("compose.yaml").read_text(), done.stdout, done.stderr):
        assert text and f"\n{text}```\n" in page
