"""The builder of a switch: bridges that join its interfaces, one for each VLAN.

A bridge for each, and an interface for each VLAN of a link with tags, work where the kernel has
bridges without VLANs of their own (CONFIG_BRIDGE_VLAN_FILTERING), too.
"""

from __future__ import annotations

from collections.abc import Iterator

from testbed.kernel.netlink import rtnetlink
from testbed.kernel.netlink.socket import Request
from testbed.lab.kinds.registry import builds
from testbed.lab.node_builder import NodeBuilder

BRIDGE = "bridge"


@builds("switch")
class SwitchBuilder(NodeBuilder):
    """Makes bridges, which have no addresses."""

    def requests_before(self) -> list[Request]:
        """The bridges; the MTU is the least of their ports."""
        mtu = min((interface.mtu for interface in self.planned.interfaces), default=1500)
        vlans = dict.fromkeys(
            vlan for one in self.planned.interfaces for vlan in one.vlans or (one.vlan,)
        )
        requests = []
        for vlan in vlans or (None,):
            index = self.take_index(_bridge(vlan))
            requests += [
                rtnetlink.bridge(_bridge(vlan), index),
                rtnetlink.set_link(index, _bridge(vlan), up=True, mtu=mtu),
            ]
        return requests

    def requests_after(self) -> list[Request]:
        """The interfaces for frames with tags."""
        return list(self._tagged())

    def _tagged(self) -> Iterator[Request]:
        for port in self.planned.interfaces:
            for vlan in port.vlans:
                index = self._index_source.take()
                # Ports may have any names: numbers keep theirs within the 15 bytes that there are.
                name = f"vlan{vlan}-{index}"
                yield rtnetlink.vlan_interface(name, index, self.indices[port.name], vlan)
                yield rtnetlink.set_link(index, name, master=self.indices[_bridge(vlan)], up=True)

    def master_of(self, interface: str) -> int | None:
        """The bridge of its VLAN; none for a port whose frames have tags."""
        port = next(one for one in self.planned.interfaces if one.name == interface)
        return None if port.vlans else self.indices[_bridge(port.vlan)]


def _bridge(vlan: int | None) -> str:
    return BRIDGE if vlan is None else f"{BRIDGE}-{vlan}"
