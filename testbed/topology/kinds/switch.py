"""A switch: joins its links to one broadcast domain."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.topology.kinds.kind import NodeKind
from testbed.topology.kinds.registry import node_kind
from testbed.topology.model import Node
from testbed.topology.problems import Problem


@node_kind("switch")
class Switch(NodeKind):
    """Forwards frames; has no addresses, routes or connections."""

    has_addresses = False
    interface_names = ("port", 1)

    def problems(self, node: Node) -> Iterator[Problem]:
        """A switch has no routes, no congestion control and no addresses."""
        for key in ("routes", "congestion_control"):
            if getattr(node, key):
                yield Problem((key,), f"a switch has no {key.replace('_', ' ')}")
        for name, interface in node.interfaces.items():
            if interface.addresses:
                where = ("interfaces", name, "addresses")
                yield Problem(where, "interfaces of a switch have no addresses")
            if interface.vlan is not None and interface.vlans:
                text = "frames have no tag (`vlan`) or one (`vlans`); one of the two"
                yield Problem(("interfaces", name), text)
