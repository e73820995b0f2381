"""The builder of a host, whose TCP may be ours: the kernel then hands TCP packets to a TUN device.

    eth0 -> rule (to the node's address, TCP) -> TUN "tcp" -> `TcpDriver`

and the same way back: the kernel forwards between the two, so that addresses, neighbours and
routes are as in any other node. A hop is counted in neither direction that anybody would see.
"""

from __future__ import annotations

import socket
from typing import Final

from testbed.kernel import sysctl
from testbed.kernel.devices import tun
from testbed.kernel.netlink import rtnetlink
from testbed.kernel.netlink.socket import Request
from testbed.lab.kinds.registry import builds
from testbed.lab.node import LabNode
from testbed.lab.node_builder import NodeBuilder
from testbed.lab.runtime import Runtime
from testbed.lab.userspace_tcp import TcpDriver, settings_of
from testbed.topology.kinds.host import FAULT, IMPLEMENTATION, USERSPACE

_DEVICE: Final = "tcp"
_TABLE: Final = 101
_CLAIM_PRIORITY, _LOCAL_PRIORITY = 10, 50
_QUEUE: Final = 10_000  # packets
_DEFAULT_ROUTE: Final = {socket.AF_INET: "0.0.0.0/0", socket.AF_INET6: "::/0"}


@builds("host")
class HostBuilder(NodeBuilder):
    """Makes a TUN device and what leads into it, where the host's TCP is not the kernel's."""

    @property
    def _own_tcp(self) -> bool:
        return self._settings.get(IMPLEMENTATION) == USERSPACE

    @property
    def _settings(self) -> dict[str, str]:
        return self.plan.topology.nodes[self.name].settings

    def make_node(self, runtime: Runtime) -> LabNode:
        node = super().make_node(runtime)
        if self._own_tcp:
            fd = self.namespace.call(tun.open_tun, _DEVICE, self.take_index(_DEVICE))
            node.tcp = TcpDriver(
                fd,
                mtu=self._mtu,
                fault=self._settings.get(FAULT),
                settings=settings_of(self.planned.sysctls),
            )
            runtime.stack.callback(node.tcp.close)
        return node

    @property
    def _mtu(self) -> int:
        return min((one.mtu for one in self.planned.interfaces), default=1500)

    def requests_after(self) -> list[Request]:
        """What routes TCP for the node's own addresses into the device."""
        if not self._own_tcp:
            return []
        index = self.indices[_DEVICE]
        names = (_DEVICE, *(interface.name for interface in self.planned.interfaces))
        self.namespace.call(
            sysctl.write,
            {
                f"net.ipv4.conf.{_DEVICE}.accept_local": "1",
                "net.ipv4.ip_early_demux": "0",
                "net.ipv6.conf.all.forwarding": "1",  # of all, or none forwards
                **{f"net.ipv4.conf.{name}.forwarding": "1" for name in names},
            },
        )
        requests = [
            rtnetlink.set_link(index, _DEVICE, mtu=self._mtu, txqlen=_QUEUE, up=True),
            *(rtnetlink.add_route(route, index, table=_TABLE) for route in _DEFAULT_ROUTE.values()),
            *(
                request
                for family in _DEFAULT_ROUTE
                for request in rtnetlink.move_local_rule(family, _LOCAL_PRIORITY)
            ),
        ]
        return requests + [
            rtnetlink.add_claim_rule(
                address.split("/")[0],
                interface.name,
                socket.IPPROTO_TCP,
                _TABLE,
                _CLAIM_PRIORITY,
            )
            for interface in self.planned.interfaces
            for address in interface.addresses
        ]
