"""The path of the integration tests: a client, a box, a server."""

from __future__ import annotations

import os
from typing import Any

import pytest

from testbed.topology.model import Endpoint, FunctionSpec, Impairments, Link, Node, Topology

CLIENT, BOX, SERVER = "client", "box", "server"
ONE_WAY = 0.005

needs_a_lab = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="needs root and /dev/net/tun",
)


def path(
    *functions: tuple[str, dict[str, Any]],
    loss: float = 0.0,
    outside: str = CLIENT,
    **sysctls: str,
) -> Topology:
    """client --- box --- server, 10 ms there and back; losses (both ways) are the client's link's.

    outside: the host on the box's outer side. sysctls: of both hosts, without `net.ipv4.`.
    """
    toward_client, toward_server = "outside", "inside"
    if outside == SERVER:
        toward_client, toward_server = toward_server, toward_client
    link = Impairments(delay=ONE_WAY, loss=loss)
    settings = {f"net.ipv4.{name}": value for name, value in sysctls.items()}
    return Topology(
        name="path",
        nodes={
            CLIENT: Node(name=CLIENT, congestion_control="cubic", sysctls=settings),
            BOX: Node(
                name=BOX,
                kind="middlebox",
                outside=outside,
                functions=tuple(FunctionSpec(name, options) for name, options in functions),
            ),
            SERVER: Node(name=SERVER, congestion_control="cubic", sysctls=settings),
        },
        links=(
            Link(
                endpoints=(Endpoint(CLIENT, "eth0"), Endpoint(BOX, toward_client)),
                forward=link,
                reverse=link,
            ),
            Link(endpoints=(Endpoint(BOX, toward_server), Endpoint(SERVER, "eth0"))),
        ),
        captures=(Endpoint(CLIENT, "eth0"), Endpoint(SERVER, "eth0")),
    )
