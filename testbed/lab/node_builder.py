"""One node under construction: the builder that all kinds of nodes share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import ClassVar

from testbed.kernel import sysctl
from testbed.kernel.namespace import Namespace
from testbed.kernel.netlink import ethtool, rtnetlink, state
from testbed.kernel.netlink.socket import Netlink, Request
from testbed.kernel.placement import Placement
from testbed.kernel.processes.helper import Helper
from testbed.lab.defaults import PINNED_SYSCTLS
from testbed.lab.node import LabNode
from testbed.lab.runtime import Runtime
from testbed.topology.planning.plan_model import Plan, PlannedNode


class NamespaceDefaults:
    """What every new namespace of this lab needs, found out once, in a namespace just made."""

    def __init__(self, namespace: Namespace) -> None:
        with namespace.call(Netlink) as netlink:
            self.offloads = ethtool.Offloads(netlink)
        self.sysctls = namespace.call(sysctl.missing, PINNED_SYSCTLS)


class IndexSource:
    """Interface indices, never the same twice in a lab.

    namespace: one of the lab's, just made. It may have been born with interfaces, such as the
    fallback tunnels tunl0 and sit0 (net.core.fb_tunnels_only_for_init_net in
    Documentation/admin-guide/sysctl/net.rst); their indices are taken in all others too.

    The two ends of a veth must differ in index: the kernel tells of a carrier at once only then,
    and up to a second late otherwise (net/core/link_watch.c, linkwatch_urgent_event).
    """

    def __init__(self, namespace: Namespace) -> None:
        with namespace.call(Netlink) as netlink:
            born = [interface.index for interface in state.interfaces(netlink).values()]
        self._numbers = count(max(born, default=rtnetlink.LOOPBACK_INDEX) + 1)

    def take(self) -> int:
        return next(self._numbers)


class NamespaceSource:
    """Where the nodes of one kind get their namespaces from; by default they are made anew.

    One for each kind in a lab, made before anything else of that lab.
    """

    def __init__(self, nodes: Sequence[PlannedNode], plan: Plan, runtime: Runtime) -> None:
        self.runtime = runtime

    def namespace(self, name: str) -> Namespace:
        """The namespace of a node, given up at the end."""
        return self.runtime.new_namespace()


class NodeBuilder:
    """Builds one node: its namespace, the index of each of its interfaces, and what it needs.

    A kind of node that needs more than interfaces, addresses and routes has a subclass, known by
    `testbed.lab.kinds.builds`.

    helper_module: the module that a process of its own runs, as `python -m MODULE --control FD`.
    namespaces: where namespaces come from.
    steering: which processors share the work of that process under load, in words.
    """

    helper_module: ClassVar[str | None] = None
    namespaces: ClassVar[type[NamespaceSource]] = NamespaceSource

    def __init__(
        self,
        planned: PlannedNode,
        plan: Plan,
        source: NamespaceSource,
        defaults: NamespaceDefaults,
        indices: IndexSource,
    ) -> None:
        self.planned = planned
        self.plan = plan
        self.source = source
        self.namespace = namespace = source.namespace(planned.name)
        self.defaults = defaults
        self.indices: dict[str, int] = {"lo": rtnetlink.LOOPBACK_INDEX}
        #: Interfaces whose kernel merges and splits segments and is to stop it.
        self.offloading: list[str] = []
        self.netlink = namespace.call(Netlink)
        self.steering = ""
        self._index_source = indices

    @property
    def name(self) -> str:
        return self.planned.name

    def take_index(self, interface: str) -> int:
        """An index for an interface that is about to be made."""
        self.indices[interface] = index = self._index_source.take()
        return index

    @property
    def sysctls(self) -> dict[str, str]:
        """Those to be set, before any interface copies them."""
        return {**self.defaults.sysctls, **self.planned.sysctls}

    def make_node(self, runtime: Runtime) -> LabNode:
        """The node as users get it by `lab["name"]`."""
        return LabNode(self.planned, self.plan, self.namespace, runtime)

    def start_helper(
        self, node: LabNode, helper: Helper, placement: Placement | None, directory: Path | None
    ) -> None:
        """Give its process what it needs; before the node is configured.

        placement: the processors that it may use under load. directory: where logs go.
        """

    def requests_before(self) -> list[Request]:
        """What is asked of the kernel before the interfaces are set up."""
        return []

    def requests_after(self) -> list[Request]:
        """What is asked of the kernel after interfaces, addresses and routes."""
        return []

    def await_ready(self, runtime: Runtime) -> None:
        """Wait until the node is ready for use, once all is built."""

    def master_of(self, interface: str) -> int | None:
        """The index of the interface that joins this one with others, in a node that has one."""
        return None

    def close(self) -> None:
        """End the construction."""
        self.netlink.close()
