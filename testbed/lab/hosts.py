"""The names of nodes, for programs that run in them."""

from __future__ import annotations

from testbed.topology.planning.plan_model import Plan

_OWN = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


def hosts_file(plan: Plan) -> str:
    """The content of /etc/hosts in every node: all addresses of all nodes (hosts(5))."""
    lines = [
        f"{address} {name}\n"
        for family in plan.preferred_families
        for name in plan.nodes
        for address in plan.addresses(name, family)
    ]
    return _OWN + "".join(lines)


def address_selection(plan: Plan) -> str:
    """The content of /etc/gai.conf: getaddrinfo() sorts by it (RFC 6724, section 2.1)."""
    of_ipv4 = 100 if plan.preferred_families[0] == 4 else 10
    return f"precedence ::/0 40\nprecedence ::ffff:0:0/96 {of_ipv4}\n"
