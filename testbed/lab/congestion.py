"""Whether this kernel has the congestion controls that a topology asks for."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from testbed.errors import KernelError
from testbed.kernel import sysctl
from testbed.topology.planning.plan_model import Plan


def refuse_unknown_congestion_controls(plan: Plan) -> None:
    """Raise `KernelError` for one that this kernel does not have, and cannot load.

    Asks in the network namespace of the calling thread.
    """
    for node, algorithm in dict.fromkeys(_asked(plan)):
        if not _is_there(algorithm):
            known = sysctl.read("net.ipv4.tcp_available_congestion_control")
            raise KernelError(
                f"node '{node}': this kernel has no congestion control '{algorithm}'. It has "
                f"{', '.join(known.split())}; others are modules: modprobe tcp_{algorithm}, or "
                "`testbed --kernel uml`."
            )


def _asked(plan: Plan) -> Iterator[tuple[str, str]]:
    for node in plan.nodes.values():
        if node.congestion_control is not None:
            yield node.name, node.congestion_control
        for route in node.routes:
            if route.metrics.congestion_control is not None:
                yield node.name, route.metrics.congestion_control


def _is_there(algorithm: str) -> bool:
    """Asking for it loads its module, as setting it on a route does (tcp_cong.c)."""
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, algorithm.encode())
        except OSError as error:
            return error.errno != errno.ENOENT
    return True
