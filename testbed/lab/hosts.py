"""The names of nodes, for programs that run in them."""

from __future__ import annotations

from testbed.topology.planning.plan_model import Plan

_OWN = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


def hosts_file(plan: Plan, node: str) -> str:
    """The content of /etc/hosts in a node: the addresses that names stand for there (hosts(5))."""
    return _OWN + "".join(f"{address} {name}\n" for address, name in plan.names(node))


def address_selection(plan: Plan) -> str:
    """The content of /etc/gai.conf: getaddrinfo() sorts by it (RFC 6724, section 2.1)."""
    of_ipv4 = 100 if plan.preferred_families[0] == 4 else 10
    return f"precedence ::/0 40\nprecedence ::ffff:0:0/96 {of_ipv4}\n"
