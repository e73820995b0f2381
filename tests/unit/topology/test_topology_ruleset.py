"""The key `kernel`: rulesets read beside the topology, and what is wrong with them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from testbed.errors import TopologyError
from testbed.topology.model import KernelFunctions, Ruleset
from testbed.topology.yaml.load import load


def written(folder: Path, node: str) -> Path:
    path = folder / "t.yaml"
    path.write_text(f"name: t\nnodes:\n  a: {node}\n  b:\nlinks:\n  - endpoints: [a, b]\n")
    return path


def problem(folder: Path, node: str) -> str:
    with pytest.raises(TopologyError) as caught:
        load(written(folder, node))
    (line,) = caught.value.problems
    return line


def test_a_ruleset_is_found_beside_its_topology(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    rules = tmp_path / "sub" / "rules.nft"
    rules.write_text("table ip empty {}\n")
    path = written(tmp_path, "{kind: router, kernel: {nftables: sub/rules.nft}}")
    assert load(path).nodes["a"].kernel == KernelFunctions(
        nftables=Ruleset(str(rules), "table ip empty {}\n")
    )
    assert load(path).nodes["b"].kernel is None


def test_faults_of_a_ruleset_have_a_line(tmp_path: Path) -> None:
    start = f"{tmp_path}/t.yaml:3: nodes.a.kernel"
    file = f"{tmp_path}/rules.nft"
    node = "{kernel: {nftables: rules.nft}}"
    assert problem(tmp_path, node).startswith(f"{start}.nftables: {file} cannot be read: No such")
    Path(file).write_bytes(b"\xff")
    assert problem(tmp_path, node) == f"{start}.nftables: {file} is not UTF-8 text"
    with Path(file).open("wb") as huge:
        huge.truncate((1 << 20) + 1)
    assert f"{file} is too large" in problem(tmp_path, node)
    Path(file).unlink()
    os.mkfifo(file)
    assert f"{file} is not an ordinary file" in problem(tmp_path, node)
    assert "the key 'nftables' is missing" in problem(tmp_path, "{kernel: {}}")


@pytest.mark.parametrize("kind", ["switch", "middlebox, outside: b"])
def test_only_hosts_and_routers_have_rulesets(tmp_path: Path, kind: str) -> None:
    (tmp_path / "rules.nft").write_text("")
    path = written(tmp_path, f"{{kind: {kind}, kernel: {{nftables: rules.nft}}}}")
    with pytest.raises(
        TopologyError, match=r"nodes\.a\.kernel: only a container, host or router has kernel"
    ):
        load(path)
