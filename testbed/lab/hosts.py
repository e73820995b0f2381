"""The names of nodes, for programs that run in them."""

from __future__ import annotations

from testbed.topology.planning.plan_model import Plan

_OWN = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


def hosts_file(plan: Plan) -> str:
    """The content of /etc/hosts in every node: all addresses of all nodes (hosts(5))."""
    lines = [
        f"{address} {name}\n"
        for family in (4, 6)
        for name in plan.nodes
        for address in plan.addresses(name, family)
    ]
    return _OWN + "".join(lines)
