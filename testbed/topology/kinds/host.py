"""A host: an end of connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from testbed.topology.kinds.kind import NodeKind
from testbed.topology.kinds.registry import node_kind
from testbed.topology.model import Node
from testbed.topology.problems import Problem
from testbed.topology.values.shapes import Key, OneOf, choice
from testbed.transport.faults import fault_names

IMPLEMENTATION: Final = "implementation"
FAULT: Final = "fault"
KERNEL, USERSPACE = "kernel", "testbed-tcp"


@node_kind("host")
class Host(NodeKind):
    """Sends and receives; its kernel may filter what it does, or leave TCP to a userspace one."""

    takes = frozenset({"kernel"})
    keys = (
        Key(
            IMPLEMENTATION,
            choice(IMPLEMENTATION, (KERNEL, USERSPACE)),
            "Whose TCP the host has: Linux's, or the testbed's own, whose sockets "
            '`lab["name"].tcp_socket()` makes.',
            default=KERNEL,
        ),
        Key(
            FAULT,
            OneOf(FAULT, fault_names),
            "A known problem (RFC 2525) that the testbed's own TCP is to have.",
            default="none",
        ),
    )

    def problems(self, node: Node) -> Iterator[Problem]:
        """Linux cannot be told to have a fault."""
        if FAULT in node.settings and node.settings.get(IMPLEMENTATION) != USERSPACE:
            yield Problem((FAULT,), f"only `{IMPLEMENTATION}: {USERSPACE}` can have a fault")
