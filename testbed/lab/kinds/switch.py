"""The builder of a switch: a bridge that joins its interfaces."""

from __future__ import annotations

from testbed.kernel.netlink import rtnetlink
from testbed.kernel.netlink.socket import Request
from testbed.lab.kinds.registry import builds
from testbed.lab.node_builder import NodeBuilder

BRIDGE = "bridge"


@builds("switch")
class SwitchBuilder(NodeBuilder):
    """Makes a bridge, which has no addresses."""

    def requests_before(self) -> list[Request]:
        """The bridge; its MTU is the least of its ports."""
        index = self.take_index(BRIDGE)
        mtu = min((interface.mtu for interface in self.planned.interfaces), default=1500)
        return [
            rtnetlink.bridge(BRIDGE, index),
            rtnetlink.set_link(index, BRIDGE, up=True, mtu=mtu),
        ]

    @property
    def master(self) -> int:
        """The bridge."""
        return self.indices[BRIDGE]
