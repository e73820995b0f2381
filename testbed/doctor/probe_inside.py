"""The part of the probe that makes namespaces: a process of its own that prints what it found."""

from __future__ import annotations

import os
import sys

import msgspec

from testbed.doctor.probe import QDISCS, Inside
from testbed.errors import KernelError, PrivilegeError
from testbed.kernel import sysctl
from testbed.kernel.devices import tun
from testbed.kernel.devices.arrival_stamps import stamped
from testbed.kernel.devices.steering import open_steered
from testbed.kernel.netlink import qdisc, rtnetlink
from testbed.kernel.netlink.socket import Netlink
from testbed.kernel.processes import capabilities, confine, userns
from testbed.kernel.syscalls import CLONE_NEWNET, CLONE_NEWPID, unshare
from testbed.kernel.tcp_info import route_settings

_INDEX, _PEER, _TAP = 10, 11, 12
# RFC 5737.
_ADDRESS, _GATEWAY = "192.0.2.1/24", "192.0.2.2"
_DESTINATION, _HOST = "198.51.100.0/24", "198.51.100.1"


def look() -> Inside:
    """Try everything that a lab may need, in the order in which a lab needs it."""
    found = Inside(missing_capabilities=capabilities.missing())
    _read_congestion_controls(found)
    if userns.needed():
        try:
            userns.enter()
        except PrivilegeError as error:
            found.user_namespace = str(error)
            return found
        found.rootless = True
    found.realtime = confine.prefer_realtime()
    found.network_namespace = _refusal(CLONE_NEWNET)
    if found.network_namespace is None:
        _look_at_network(found)
    found.pid_namespace = _refusal(CLONE_NEWPID)
    return found


def _refusal(namespace: int) -> str | None:
    try:
        unshare(namespace)
    except OSError as error:
        return os.strerror(error.errno or 0)
    return None


def _read_congestion_controls(found: Inside) -> None:
    found.congestion_controls = tuple(_words("net.ipv4.tcp_available_congestion_control"))
    found.default_congestion_control = " ".join(_words("net.ipv4.tcp_congestion_control"))


def _words(name: str) -> list[str]:
    try:
        return sysctl.read(name).split()
    except (KernelError, OSError):
        return []


def _look_at_network(found: Inside) -> None:
    try:
        opened = open_steered(tun.open_tap, "probe", _TAP, os.sched_getaffinity(0))
        with stamped(opened.fd, opened.fd) as rings:
            found.arrival_stamps = rings is not None
        os.close(opened.fd)
        found.steering = opened.unsteered
    except KernelError as error:
        found.tun = str(error)
    with Netlink() as netlink:
        _make_cable(netlink)
        found.route_congestion_control = _try_route(netlink, found)
        found.qdiscs = {kind: qdisc.is_available(netlink, _INDEX, kind) for kind in QDISCS}


def _make_cable(netlink: Netlink) -> None:
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        ends = [
            rtnetlink.LinkEnd(namespace=here, name=name, index=index, mac=f"02:00:00:00:00:{index}")
            for name, index in (("probe0", _INDEX), ("probe1", _PEER))
        ]
        netlink.execute(
            [
                rtnetlink.veth(*ends),
                rtnetlink.set_link(_PEER, "probe1", up=True),
                rtnetlink.set_link(_INDEX, "probe0", up=True),
                rtnetlink.add_address(_INDEX, "probe0", _ADDRESS),
            ]
        )
    finally:
        os.close(here)


def _try_route(netlink: Netlink, found: Inside) -> str | None:
    """Whether a route decides the congestion control of connections, seen on a real socket."""
    others = [
        name for name in found.congestion_controls if name != found.default_congestion_control
    ]
    wanted = next(iter(others), found.default_congestion_control)
    try:
        metrics = rtnetlink.Metrics(cc_algo=wanted)
        netlink.execute([rtnetlink.add_route(_DESTINATION, _INDEX, via=_GATEWAY, metrics=metrics)])
        got = route_settings(_HOST).congestion_control
    except KernelError as error:
        return str(error)
    return None if got == wanted else f"a route with congctl {wanted} gives {got}"


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(look()))
