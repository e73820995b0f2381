"""A router: the kernel forwards packets between its interfaces."""

from __future__ import annotations

from testbed.topology.kinds.kind import NodeKind
from testbed.topology.kinds.registry import node_kind


@node_kind("router")
class Router(NodeKind):
    """Forwards packets by the planned routes; its kernel may filter and translate them."""

    forwards = True
    takes = frozenset({"kernel"})
