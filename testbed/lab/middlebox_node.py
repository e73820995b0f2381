"""A middlebox node: a router whose forwarded packets take the way through a process of ours.

    outside interfaces -> rule -> TUN "tun-out" -> engine -> TUN "tun-in" -> main table -> inside

and the same the other way. What is addressed to the node itself never gets there: the local
table is asked first (ip-rule(8)).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from testbed.kernel import rtnetlink, tun
from testbed.kernel.netlink import Request
from testbed.lab.build import IndexSource, Site
from testbed.lab.helper import Helper
from testbed.middlebox.client import MiddleboxClient
from testbed.topology.model import Function

OUTSIDE_TUN, INSIDE_TUN = "tun-out", "tun-in"

_TABLES = {OUTSIDE_TUN: 101, INSIDE_TUN: 102}
_RULE_PRIORITY = 100
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_DEFAULT_ROUTE = {socket.AF_INET: "0.0.0.0/0", socket.AF_INET6: "::/0"}
_TUN_QUEUE = 10_000


class MiddleboxSite:
    """The TUN ends of a middlebox under construction."""

    def __init__(self, site: Site, indices: IndexSource) -> None:
        self.site = site
        self.mtu = min(interface.mtu for interface in site.planned.interfaces)
        self._fds = [
            site.namespace.call(tun.open_tun, name, indices.take(site, name)) for name in _TABLES
        ]

    def requests(self) -> list[Request]:
        """What routes forwarded packets into the TUNs."""
        planned = self.site.planned
        largest = max(interface.mtu for interface in planned.interfaces)
        requests = []
        for name, table in _TABLES.items():
            index = self.site.indices[name]
            requests.append(
                rtnetlink.set_link(index, name, mtu=largest, txqlen=_TUN_QUEUE, up=True)
            )
            requests += [
                rtnetlink.add_route(_DEFAULT_ROUTE[family], index, table=table)
                for family in _FAMILIES
            ]
        for interface in planned.interfaces:
            side = OUTSIDE_TUN if interface.name in planned.outside else INSIDE_TUN
            requests += [
                rtnetlink.add_interface_rule(family, interface.name, _TABLES[side], _RULE_PRIORITY)
                for family in _FAMILIES
            ]
        return requests

    def start_engine(self, helper: Helper, functions: Sequence[Function]) -> MiddleboxClient:
        """Hand the TUNs to the engine's process."""
        client = MiddleboxClient(helper.channel)
        client.start(self.site.name, functions, self.mtu, *self._fds)
        self.close()
        return client

    def close(self) -> None:
        """Close our copies of the descriptors."""
        while self._fds:
            os.close(self._fds.pop())
