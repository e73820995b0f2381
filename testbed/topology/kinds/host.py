"""A host: an end of connections."""

from __future__ import annotations

from testbed.topology.kinds.kind import NodeKind
from testbed.topology.kinds.registry import node_kind


@node_kind("host")
class Host(NodeKind):
    """Sends and receives; its kernel may filter what it does."""

    takes = frozenset({"kernel"})
