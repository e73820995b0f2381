"""Whether this kernel can emulate links, told by trying in a namespace where nothing runs."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

import msgspec

from testbed.errors import KernelError, PrivilegeError
from testbed.kernel.netlink import qdisc, redirect
from testbed.kernel.netlink.netem_qdisc import Netem
from testbed.kernel.netlink.rtnetlink import LOOPBACK_INDEX
from testbed.kernel.netlink.socket import Netlink

_SEED = 1
_USER_MODE = "User Mode Linux"  # the vendor_id of its processor


class NetemSupport(msgspec.Struct, frozen=True):
    """missing: kernel modules that netem links need and the kernel lacks, by name; seeded: whether
    netem's random numbers can be given a seed (since Linux 6.6); coarse_timers: whether timers are
    late by milliseconds now and then."""

    missing: tuple[str, ...]
    seeded: bool
    coarse_timers: bool


def probe_netem(kinds: Iterable[str] = ("netem", "tbf", "pfifo", "bfifo")) -> NetemSupport:
    """Try the qdiscs `kinds` and the filters between them, on the loopback of this namespace.

    Its loopback is as it was afterwards. Raises `PrivilegeError` where nobody may try.
    """
    with Netlink() as netlink:
        missing = [
            f"sch_{kind}"
            for kind in sorted(kinds)
            if not qdisc.is_available(netlink, LOOPBACK_INDEX, kind)
        ]
        try:
            if not _filters_work(netlink):
                missing.append("sch_ingress, cls_u32, act_mirred or act_gact")
            return NetemSupport(
                missing=tuple(missing),
                seeded="sch_netem" not in missing and _seeds(netlink),
                coarse_timers=_USER_MODE in Path("/proc/cpuinfo").read_text(),
            )
        finally:
            _take_away(netlink)


def _take_away(netlink: Netlink) -> None:
    """Remove what was tried last; nothing is there when the kernel has had none of it."""
    try:
        netlink.execute([qdisc.take_away(LOOPBACK_INDEX)])
    except KernelError as error:
        if error.number != errno.ENOENT:
            raise


def _filters_work(netlink: Netlink) -> bool:
    try:
        netlink.execute([redirect.accept_filters(LOOPBACK_INDEX)])
    except PrivilegeError:
        raise
    except KernelError:
        return False
    try:
        netlink.execute(
            [redirect.redirect(LOOPBACK_INDEX, LOOPBACK_INDEX), redirect.drop(LOOPBACK_INDEX)]
        )
    except KernelError:
        return False
    finally:
        netlink.execute([redirect.accept_no_filters(LOOPBACK_INDEX)])
    return True


def _seeds(netlink: Netlink) -> bool:
    netlink.execute([qdisc.put(LOOPBACK_INDEX, Netem(limit=1, seed=_SEED))])
    told = qdisc.decode(qdisc.look(netlink, LOOPBACK_INDEX))
    return isinstance(told, Netem) and told.seed == _SEED
