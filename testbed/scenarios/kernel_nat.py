"""The NAT of the Linux kernel in the place of the testbed's own, for comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from testbed.loading import ruleset_path
from testbed.topology.model import KernelFunctions, Ruleset, Topology
from testbed.topology.vary import with_node

Nat = Literal["testbed", "kernel"]
"""A scenario's parameter: whose NAT stands in the path."""

NAT_LABELS: Mapping[str, str] = {"testbed": "testbed", "kernel": "Linux"}


def with_kernel_nat(
    topology: Topology, node: str, rules: str, sysctls: Mapping[str, str]
) -> Topology:
    """The topology with the middlebox `node` made a router with the ruleset called `rules`.

    Its interfaces keep their names and addresses. Raises TopologyError where there is no such
    ruleset or node.
    """
    path = ruleset_path(rules)
    ruleset = Ruleset(str(path), path.read_text(encoding="utf-8"))
    return with_node(
        topology,
        node,
        kind="router",
        outside=None,
        functions=(),
        kernel=KernelFunctions(nftables=ruleset),
        sysctls={**topology.nodes[node].sysctls, **sysctls},
    )
